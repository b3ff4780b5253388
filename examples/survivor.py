"""A service that crashes its process for real, and is back before its caller has noticed.

    actorvisor run examples/survivor.py

`Parser` stands for code that cannot be trusted: a C extension, a model, somebody's plug-in. It runs
in a process of its own, so that a segmentation fault ends that process and nothing else. The
message that did it is answered with an error, and the next one is handled by a fresh process.
"""

from __future__ import annotations

import os
import signal

import actorvisor as av


class Parser(av.Service):
    """Counts the words of a text, unless that has the one word that it cannot bear."""

    def words(self, text: str) -> int:
        if "segfault" in text.split():
            os.kill(os.getpid(), signal.SIGSEGV)  # what a broken C extension does
        return len(text.split())

    def process(self) -> int:
        return os.getpid()


async def talk(texts: tuple[str, ...], parser: av.Ref[Parser]) -> None:
    """Send texts to the parser, and print what becomes of each."""
    for text in texts:
        try:
            print(f"{text!r}: {await parser.ask(Parser.words, text)} words")
        except av.ServiceCrashed as error:
            print(f"{text!r}: the parser is dead ({error.reason})")


class Client(av.Service):
    """Talks to the parser, and ends."""

    async def setup(self) -> None:
        self.parser = self.find("../parser", Parser)
        self.after(0, Client.work)

    async def work(self) -> None:
        await talk(("to be or not to be", "a segfault", "that is the question"), self.parser)
        self.stop()


def main() -> av.Supervisor:
    """Show that a service survives the death of its process."""
    return av.Supervisor(
        [
            av.Application(Parser, name="parser", executor=av.ProcessExecutor()),
            av.Application(Client, name="client", restart="transient", significant=True),
        ],
        auto_shutdown="any",
        restart="transient",
        name="survivor",
    )
