"""A service that stands in for another one, and keeps what it is sent."""

from __future__ import annotations

from typing import Any

from ..abc import LaterReply, Service


class Probe(Service):
    """Keeps all that it is sent, and the notifications of what it watches.

    What a service under test sends goes to ``ref.send(...)`` of it::

        probe = await host.start(av.Application(Probe))
        await service.tell(Service.report_to, probe)
        assert await probe.ask(Probe.await_messages, 2) == ("first", "second")
    """

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._waiting: list[tuple[int, LaterReply]] = []

    def receive(self, message: Any) -> None:
        """Keep a message."""
        self._messages.append(message)
        due = [one for one in self._waiting if one[0] <= len(self._messages)]
        for one in due:
            self._waiting.remove(one)
            one[1].send(tuple(self._messages))

    def messages(self) -> tuple[Any, ...]:
        """All that has come, oldest first."""
        return tuple(self._messages)

    def await_messages(self, count: int) -> tuple[Any, ...]:
        """All that has come, as soon as that is so many messages; it bears no timeout itself."""
        if len(self._messages) < count:
            self._waiting.append((count, self.reply_later()))
        return tuple(self._messages)

    def forget(self) -> tuple[Any, ...]:
        """Forget all that has come; what that was."""
        forgotten, self._messages = tuple(self._messages), []
        return forgotten

    def watch(self, *refs: Any) -> None:
        """Get the notifications of other actors, too."""
        for ref in refs:
            self.monitor(ref)
