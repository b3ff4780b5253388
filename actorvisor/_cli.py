"""The command line: ``actorvisor run TARGET``.

What is wrong with a command or its target is one line on stderr and exit code 2. What the program
itself does ends as it says: 0, 128 + signal, 1 when a crash reached the host, or the code of a
service's SystemExit (H4).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TextIO, TypeAlias

try:
    import cyclopts
except ModuleNotFoundError as missing:
    print(
        f"actorvisor: the command line needs {missing.name}, which is not installed: "
        "pip install 'actorvisor[cli]'",
        file=sys.stderr,
    )
    sys.exit(2)

from ._core._describe import describe
from ._core._tree import difference
from ._runtime._declaration import Application, Supervisor, check_children
from ._runtime._host import Host, open_host
from ._runtime._kind import is_async
from ._runtime._pool import Declaration, Pool
from ._runtime._signals import run as run_program
from .abc import Service

if TYPE_CHECKING:
    from ._core._tree import TreeNode

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

USAGE: Final = 2
"""The exit code of a command that cannot be carried out."""
OWN_OPTIONS: Final = frozenset({"--log-level", "--tree"})
DECLARATIONS: Final = (
    "a Supervisor, an Application, a Pool, a list of them, or a function that returns one"
)


class TargetError(Exception):
    """A target that cannot be run; its text is one line for the user."""


def main() -> None:
    """The entry point of the ``actorvisor`` command."""
    try:
        code = command(sys.argv[1:])
    except KeyboardInterrupt:  # before the program ran, or in what it runs without a host
        code = 130
    except TargetError as error:
        code = complain(str(error))
    sys.exit(code)


def complain(text: str) -> int:
    """Say on stderr, in one line, why nothing is run; the exit code for that."""
    print(f"actorvisor: {' '.join(text.split())}", file=sys.stderr)
    return USAGE


def command(words: Sequence[str]) -> Any:
    """Carry out a command line; the exit code."""
    app = cyclopts.App(
        name="actorvisor",
        help="Actors on trio, with OTP's supervision.",
        version=importlib.metadata.version("actorvisor"),
    )

    @app.command(name="run", usage="Usage: actorvisor run [OPTIONS] TARGET [OPTIONS OF TARGET]")
    def run(
        target: str,
        /,
        *,
        log_level: Level = "warning",
        tree: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    ) -> int:
        """Run a program of supervised services until it has ended by itself, or is stopped.

        SIGINT (Ctrl-C) and SIGTERM stop it gracefully, a second one by force. Exit codes: 0;
        128 + signal; 1 when a crash reached the host; a service's SystemExit gives its code; 2 for
        a TARGET that cannot be run.

        Args:
            target: FILE.py, whose `main` is taken, or MODULE:ATTRIBUTE: a Supervisor, an
                Application, a Pool, a list of them, or a function that returns one. What follows
                TARGET are the options of that function: `actorvisor run FILE.py --help` shows them.
            log_level: What is logged to stderr.
            tree: Print the tree of services to stdout, at the start and at every change.
        """
        return run_target(target, options, log_level, tree)

    words, options = split(words)
    return parse(app, words)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line behind the target: what follows it is the target's own."""
    words = list(words)
    if words[:1] == ["run"]:
        at = 1
        while at < len(words) and words[at].startswith("-"):
            at += 2 if words[at] == "--log-level" else 1
        return words[: at + 1], words[at + 1 :]
    return words, []


def parse(app: cyclopts.App, words: Sequence[str]) -> Any:
    """Call what a command line names; what it returns, or the exit code of a wrong one."""
    try:
        return app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        return complain(f"{error} (see --help)")


# --------------------------------------------------------------------------------- the program


def run_target(target: str, options: Sequence[str], level: Level, tree: bool) -> int:
    """Find a program and run it; the exit code."""
    start_logging(level)
    found = find_target(target)
    if not is_declaration(found):
        found = call_target(target, found, options)
    elif options:
        what = f"{target} is no function: it takes no options such as {options[0]}"
        raise TargetError(what + hint(options))
    children = check_program(target, found)
    try:
        run_program(children, observe=TreePrinter(sys.stdout) if tree else None)
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            report(error)
        return 1
    return 0


def report(error: BaseException) -> None:
    """Say what reached the host; its traceback was logged when it happened."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    what = describe(error) + (f" ({notes})" if notes else "")
    print(f"actorvisor: the host ended: {what}", file=sys.stderr)


def is_declaration(value: object) -> bool:
    """Whether it is what a target's function may return; its items are looked at later."""
    return isinstance(value, Application | Pool | Supervisor | list | tuple)


def check_program(target: str, value: object) -> tuple[Declaration, ...]:
    """The declarations that make a program.

    Raises:
        TargetError: they do not.
    """
    single = isinstance(value, Application | Pool | Supervisor)
    found: Iterable[Any] = [value] if single else value  # type: ignore[assignment]
    try:
        children = check_children(found)
        open_host(children)  # it checks them together, and does nothing before it is entered
    except (TypeError, ValueError) as error:
        raise TargetError(f"{target}: {error}") from error
    return children


def call_target(target: str, found: object, options: Sequence[str]) -> object:
    """Call a target's function with what the command line has for it.

    Raises:
        SystemExit: it was asked for help, or its options are wrong.
        TargetError: it is no such function, or returns something else.
    """
    name = getattr(found, "__name__", target)
    if isinstance(found, type) and issubclass(found, Service):
        raise TargetError(f"{target} is a Service class; declare it: Application({name}, ...)")
    if not callable(found) or isinstance(found, type):
        raise TargetError(f"{target} is {describe(found)}, which is not {DECLARATIONS}")
    if is_async(found):
        raise TargetError(
            f"{target} is an async function; a target is a plain one that returns declarations, "
            "and `actorvisor run` runs them"
        )
    app = cyclopts.App(name=f"actorvisor run {target}", version_flags=[])
    try:
        app.default(found)
        called, bound, _ = app.parse_args(options, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise TargetError(f"{target}: {error} (see --help){hint(options)}") from error
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise TargetError(f"{target}: options cannot be made of its signature: {what}") from error
    returned = called(*bound.args, **bound.kwargs)
    if called is not found:
        sys.exit(0)  # that was its help
    if not is_declaration(returned):
        raise TargetError(f"{target} returned {describe(returned)}, which is not {DECLARATIONS}")
    return returned


def hint(options: Sequence[str]) -> str:
    """What to do about an option of ours among those of the target."""
    ours = next((one for one in options if one.partition("=")[0] in OWN_OPTIONS), None)
    return f"; {ours} goes before TARGET" if ours else ""


# ---------------------------------------------------------------------------------- the target


def find_target(target: str) -> object:
    """What a target names.

    Raises:
        TargetError: there is no such thing, or it cannot be imported.
    """
    if target.endswith(".py"):
        module, attribute = import_file(target), "main"
    else:
        name, colon, attribute = target.partition(":")
        if not colon or not name or not attribute or name.endswith(".py"):
            raise TargetError(f"TARGET is FILE.py or MODULE:ATTRIBUTE, not {target!r}")
        module = import_module(target, name)
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            remedy = f": define it, to return {DECLARATIONS}" if target.endswith(".py") else ""
            raise TargetError(f"{target} has no {attribute!r}{remedy}") from None
    return found


def import_module(target: str, name: str) -> ModuleType:
    """Import a module by its name, from the current directory too."""
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise TargetError(f"{target} cannot be imported: {cause(error)}") from error


def import_file(target: str) -> ModuleType:
    """Import a file as Python runs a script: what stands beside it can be imported."""
    path = Path(target).resolve()
    if not path.is_file():
        raise TargetError(f"there is no file {target}")
    sys.path.insert(0, str(path.parent))
    # Worker processes import it by this name. One that is taken would hide another module.
    name = path.stem
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"actorvisor_target_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TargetError(f"{target} cannot be imported: {cause(error)}") from error
    return module


def cause(error: Exception) -> str:
    """What went wrong in an import, and in which line of the user's code."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):  # names file and line itself
        return what
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen ") and frame.filename != importlib.__file__
    ][1:]  # the first one is here
    return f"{what} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else what


# ----------------------------------------------------------------------------- what is printed


class StderrHandler(logging.Handler):
    """Logs to what is stderr at that moment: a progress bar may have put itself before it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def start_logging(level: Level) -> None:
    """Log to stderr, unless logging was set up before."""
    logging.basicConfig(
        level=level.upper(),
        handlers=[StderrHandler()],
        format="{asctime} {levelname} {message}",
        style="{",
    )


class TreePrinter:
    """Prints a host's tree at the start, and at every change of it."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    async def __call__(self, host: Host) -> None:
        """Print until the host has ended, or nobody reads any more."""
        with host.events() as events:
            shown = host.tree()
            try:
                self._print(str(shown))
                try:
                    async for _ in events:
                        shown = self._print_change(shown, host)
                finally:
                    self._print_change(shown, host)
            except BrokenPipeError:
                # Python would complain once more when it flushes stdout at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._output.fileno())

    def _print_change(self, shown: TreeNode, host: Host) -> TreeNode:
        tree = host.tree()
        changes = difference(shown, tree)
        if changes:
            self._print("", *map(str, changes), str(tree))
        return tree

    def _print(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self._output, flush=True)
