"""Index the standard library of the running interpreter, while its parts may crash at any moment.

    actorvisor run examples/stdlib_index.py              what it finds, and a digest of it
    actorvisor run examples/stdlib_index.py --chaos 5    five crashes a second, the same digest

A crash is an exception in a coroutine or a thread, and for a process it is SIGKILL.

Work flows down through services; each tells the next:

    walker      coroutine   finds the files and hands them out in batches
    tokenizers  processes   a pool, one for each core: read and tokenize the files of a batch
    counter     coroutine   counts the identifiers of each file
    writer      thread      stores a batch in SQLite, in one transaction

Messages are delivered at least once: what a service has in hand when it crashes is handled again
(`redeliver`), and what waits in its mailbox waits for its next life. The results are stored exactly
once all the same, because of four habits:

1. A handler passes its result on before it returns. So a batch is always in a mailbox, in hand or
   in the database, and never only in the memory of a service that may crash.
2. A batch has a number, a file too, and a batch is stored in one transaction that replaces whatever
   has these numbers. To store it twice is to store it once.
3. What a new life has to know it reads from the database: nobody tries to save a crashed one's
   memory. The walker, for one, asks which batches are stored, and goes on with the others.
4. The end is counted and not guessed: the writer compares the batches that are stored with those
   that the walker has announced. No timeout, no "nothing came for a while".
"""

from __future__ import annotations

import atexit
import hashlib
import io
import keyword
import os
import random
import signal
import sqlite3
import sys
import sysconfig
import tempfile
import time
import tokenize
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.console
import rich.progress
import trio

import actorvisor as av

BATCH = 8
"""Files in a batch: the unit of work, of redelivery and of transaction."""
TOKENIZERS = os.cpu_count() or 1
"""Processes that tokenize."""

FORMAT = 1986290281
"""Marks a database as one of ours (SQLite's `application_id`), so that no other is overwritten."""

SCHEMA = f"""
    PRAGMA application_id = {FORMAT};
    CREATE TABLE IF NOT EXISTS plan (id INTEGER PRIMARY KEY, batches INTEGER, files INTEGER);
    CREATE TABLE IF NOT EXISTS batches (number INTEGER PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY, path TEXT, rejected TEXT);
    CREATE TABLE IF NOT EXISTS counts (
        file INTEGER, identifier TEXT, count INTEGER, PRIMARY KEY (file, identifier)
    ) WITHOUT ROWID;
    CREATE VIRTUAL TABLE IF NOT EXISTS sources USING fts5 (source);
    CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5vocab (sources, row);
"""


# ------------------------------------------------------------------------ what the messages carry


@dataclass(frozen=True)
class Batch:
    """Files to be indexed: the number of the first, and their paths relative to the root."""

    number: int
    first: int
    paths: list[str]


@dataclass(frozen=True)
class Source:
    """A file that was read and tokenized, or the reason why it could not be."""

    number: int
    path: str
    text: str = ""
    identifiers: tuple[str, ...] = ()
    rejected: str | None = None


# --------------------------------------------------------------------------------------- services


class Chaos(Exception):
    """A crash on purpose."""


class Stage(av.Service):
    """A service of the pipeline. Under chaos a background task of it crashes it, again and again.

    Each of its lives draws a random time of its own; together they make `--chaos` crashes a second.
    The crash waits until there is something in hand: that is where it can do harm.
    """

    def __init__(self, crashes_per_second: float) -> None:
        self.crashes_per_second = crashes_per_second
        self.in_hand = False

    def setup(self) -> None:
        if self.crashes_per_second:
            self.start_soon(self._crash_later, random.expovariate(self.crashes_per_second))

    @contextmanager
    def _work(self) -> Iterator[None]:
        self.in_hand = True
        yield
        self.in_hand = False

    def _crash_later(self, delay: float) -> Any:
        """Raise `Chaos` after `delay` seconds, once there is something in hand."""
        raise NotImplementedError


class CoroutineStage(Stage):
    async def _crash_later(self, delay: float) -> None:
        while True:
            await trio.sleep(delay)
            if self.in_hand:
                raise Chaos("in a task")
            delay = 0.001


class ThreadStage(Stage):
    def _crash_later(self, delay: float) -> None:
        due = time.monotonic() + delay
        while not self.stopping:
            time.sleep(0.005)
            if self.in_hand and time.monotonic() >= due:
                raise Chaos("in a thread")


class ProcessStage(Stage):
    def _crash_later(self, delay: float) -> None:
        due = time.monotonic() + delay
        while not self.stopping:
            time.sleep(0.005)
            if self.in_hand and time.monotonic() >= due:
                os.kill(os.getpid(), signal.SIGKILL)


class Walker(CoroutineStage):
    """Finds the files. It is a loop of its own: a new life of it begins at `run` again."""

    def __init__(self, crashes_per_second: float, root: Path) -> None:
        super().__init__(crashes_per_second)
        self.root = root

    async def run(self) -> None:
        writer = self.find("../writer", Writer)
        tokenizers = self.find("../tokenizers", Tokenizer)
        with self._work():
            files = await trio.to_thread.run_sync(find_files, self.root)
            batches = [
                Batch(start // BATCH, start, files[start : start + BATCH])
                for start in range(0, len(files), BATCH)
            ]
            stored = await writer.ask(Writer.plan, len(batches), len(files))
            for batch in batches:
                if batch.number not in stored:
                    await tokenizers.tell(Tokenizer.index, batch)  # waits while it has no room


class Tokenizer(ProcessStage):
    def __init__(self, crashes_per_second: float, root: Path) -> None:
        super().__init__(crashes_per_second)
        self.root = root

    def setup(self) -> None:
        self.counter = self.find("../counter", Counter)
        self.writer = self.find("../writer", Writer)
        super().setup()

    def index(self, batch: Batch) -> None:
        with self._work():
            # A walker that crashed may have sent it before: the work need not be done twice.
            if not self.writer.blocking.ask(Writer.has, batch.number):
                sources = [
                    read_source(self.root, number, path)
                    for number, path in enumerate(batch.paths, start=batch.first)
                ]
                self.counter.blocking.tell(Counter.count, batch.number, sources)


class Counter(CoroutineStage):
    def setup(self) -> None:
        self.writer = self.find("../writer", Writer)
        super().setup()

    async def count(self, number: int, sources: list[Source]) -> None:
        with self._work():
            counted = [(source, Tally(source.identifiers)) for source in sources]
            # An ask and no tell: it waits for the commit, and slows down who sends too fast.
            await self.writer.ask(Writer.store, number, counted)


class Writer(ThreadStage):
    """Stores what was found, and ends, and with it the pipeline, when all of it is stored."""

    def __init__(self, crashes_per_second: float, database: Path) -> None:
        super().__init__(crashes_per_second)
        self.database = database

    def setup(self) -> None:
        self.db = sqlite3.connect(self.database)
        self.db.execute("PRAGMA synchronous = off")
        self.db.executescript(SCHEMA)
        self.after(0, Writer.finish)  # the life before may have crashed just before its end
        super().setup()

    def teardown(self, reason: av.ExitReason) -> None:
        self.db.close()

    def plan(self, batches: int, files: int) -> set[int]:
        """How much there is to do; what is done already."""
        with self._work(), self.db:
            self.db.execute("REPLACE INTO plan VALUES (1, ?, ?)", (batches, files))
            stored = {number for (number,) in self.db.execute("SELECT number FROM batches")}
        self.finish()
        return stored

    def has(self, batch: int) -> bool:
        found = self.db.execute("SELECT 1 FROM batches WHERE number = ?", (batch,))
        return found.fetchone() is not None

    def store(self, batch: int, counted: list[tuple[Source, Tally[str]]]) -> None:
        with self._work(), self.db:  # one transaction
            self.db.execute("REPLACE INTO batches VALUES (?)", (batch,))
            for source, counts in counted:
                file = source.number
                self.db.execute(
                    "REPLACE INTO files VALUES (?, ?, ?)", (file, source.path, source.rejected)
                )
                self.db.execute(
                    "REPLACE INTO sources (rowid, source) VALUES (?, ?)", (file, source.text)
                )
                self.db.executemany(
                    "REPLACE INTO counts VALUES (?, ?, ?)",
                    [(file, identifier, count) for identifier, count in counts.items()],
                )
        self.finish()

    def finish(self) -> None:
        planned = self.db.execute("SELECT batches FROM plan").fetchone()
        if planned == self.db.execute("SELECT count(*) FROM batches").fetchone():
            self.stop()


class Console(av.Service):
    """Shows what goes on, and reports when the pipeline has ended. Chaos leaves it alone."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.restarts = 0

    def setup(self) -> None:
        self.pipeline = self.find("../pipeline", av.Supervisor)
        self.monitor(self.pipeline)  # its notifications come to `receive`
        for name in PIPELINE:
            self.monitor(self.find(f"../pipeline/{name}", Stage))
        self.db = sqlite3.connect(self.database)
        self.progress = rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            "files, {task.fields[rate]:.0f} a second, {task.fields[restarts]} restarts",
            console=rich.console.Console(stderr=True),
        )
        self.bar = self.progress.add_task("indexing", total=None, rate=0.0, restarts=0)
        self.began = time.monotonic()
        self.progress.start()
        self.every(0.1, Console.refresh)

    def teardown(self, reason: av.ExitReason) -> None:
        self.progress.stop()
        self.db.close()

    def refresh(self) -> None:
        (done,) = self.db.execute("SELECT count(*) FROM files").fetchone()
        planned = self.db.execute("SELECT files FROM plan").fetchone()
        self.progress.update(
            self.bar,
            completed=done,
            total=planned and planned[0],
            rate=done / (time.monotonic() - self.began),
            restarts=self.restarts,
        )

    def receive(self, message: av.Notification) -> None:
        match message:
            case av.Restarting():
                self.restarts += 1
            case av.Ended(path=self.pipeline.path, reason=reason):
                if isinstance(reason, av.Completed):  # all is done: nobody stopped it
                    self.refresh()
                    self.progress.stop()
                    print(report(self.db))
                self.stop()
            case _:
                pass


# ------------------------------------------------------------------------------------- plain work


def find_files(root: Path) -> list[str]:
    """Every .py file below the root, but what was installed into it, in an order for ever."""
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in {"site-packages", "dist-packages"}]
        found += [
            Path(folder, name).relative_to(root).as_posix()
            for name in names
            if name.endswith(".py")
        ]
    return sorted(found)


def read_source(root: Path, number: int, path: str) -> Source:
    """A file's text and identifiers. A file that is no Python says so, and stops nothing."""
    shown = path.encode(errors="backslashreplace").decode()  # a name may be no text
    try:
        data = (root / path).read_bytes()
        tokens = tokenize.tokenize(io.BytesIO(data).readline)
        text = data.decode(next(tokens).string)  # the first token is the encoding
        text.encode()  # SQLite would refuse half a surrogate pair
        identifiers = tuple(
            token.string
            for token in tokens
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
        )
    except (OSError, SyntaxError, UnicodeError, tokenize.TokenError) as error:
        return Source(number, shown, rejected=f"{type(error).__name__}: {error}")
    return Source(number, shown, text, identifiers)


def is_ours(database: Path) -> bool:
    """Whether a file is a database that an earlier run made."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return bool(db.execute("PRAGMA application_id").fetchone() == (FORMAT,))
    except sqlite3.Error:
        return False


def report(db: sqlite3.Connection) -> str:
    """What was found; the same text for the same files, whatever happened on the way."""
    lines = ["the 20 most used identifiers:"]
    for identifier, count in db.execute(
        "SELECT identifier, sum(count) AS uses FROM counts GROUP BY identifier"
        " ORDER BY uses DESC, identifier LIMIT 20"
    ):
        lines.append(f"{count:10,}  {identifier}")
    rejected = db.execute(
        "SELECT path, rejected FROM files WHERE rejected IS NOT NULL ORDER BY path"
    ).fetchall()
    lines.append(f"rejected files: {len(rejected)}")
    lines += [f"    {path}: {reason}" for path, reason in rejected]
    ((files,),) = db.execute("SELECT count(*) FROM files WHERE rejected IS NULL")
    ((uses, identifiers),) = db.execute(
        "SELECT coalesce(sum(count), 0), count(DISTINCT identifier) FROM counts"
    )
    ((words,),) = db.execute("SELECT count(*) FROM words")
    lines.append(
        f"totals: {files:,} files, {identifiers:,} identifiers used {uses:,} times,"
        f" {words:,} words in the full-text index"
    )
    digest = hashlib.sha256()
    for query in (
        "SELECT number, path, rejected FROM files ORDER BY number",
        "SELECT file, identifier, count FROM counts ORDER BY file, identifier",
        "SELECT rowid, source FROM sources ORDER BY rowid",
        "SELECT term, doc, cnt FROM words ORDER BY term",
    ):
        for row in db.execute(query):
            digest.update(repr(row).encode())
    lines.append(f"digest: {digest.hexdigest()}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ the program

PIPELINE = ("writer", "counter", *(f"tokenizers/{n}" for n in range(TOKENIZERS)), "walker")


def main(
    *, chaos: float = 0.0, root: Path | None = None, database: Path | None = None
) -> list[av.Supervisor | av.Application[Any]]:
    """Index Python files into SQLite; print what they use most, and a digest of the database.

    Args:
        chaos: Crashes a second, each of a random service; the digest stays the same.
        root: The directory to index; default: the standard library.
        database: Where to make the database; one of an earlier run is replaced; default: a
            temporary file.
    """
    if not 0 <= chaos < float("inf"):
        sys.exit("--chaos must be 0 or more crashes a second")
    root = root or Path(sysconfig.get_path("stdlib"))
    if not root.is_dir():
        sys.exit(f"--root: there is no directory {root}")
    if database is None:
        folder = tempfile.TemporaryDirectory(prefix="stdlib-index-")
        atexit.register(folder.cleanup)
        database = Path(folder.name, "index.sqlite")
    elif not database.parent.is_dir():
        sys.exit(f"--database: there is no directory {database.parent}")
    elif database.exists() and not is_ours(database):
        sys.exit(f"--database: {database} is no index of this program; name another file")
    database.unlink(missing_ok=True)

    each = chaos / len(PIPELINE)
    thread = av.ThreadExecutor()
    # A message is redelivered more often than the supervisor restarts within its limit. So one that
    # always crashes is never given up silently: it ends the program, and the exit code says so.
    redeliver = 1_000_000
    # A thread finishes its batch before its next life begins, which may take a while on a busy
    # machine. One that has not ended after its grace is left behind.
    grace = 60.0
    # The default, 3 restarts in 5 seconds, and twice what chaos adds to it on average.
    restarts = 3 + round(2 * 5 * chaos)
    pipeline = av.Supervisor(
        [
            # In the order of the work's way back: each finds those that it tells when it starts.
            av.Application(
                Writer,
                each,
                database,
                name="writer",
                executor=thread,
                redeliver=redeliver,
                grace=grace,
                restart="transient",  # after a crash, and not after its own end ...
                significant=True,  # ... which ends the pipeline
            ),
            av.Application(Counter, each, name="counter", mailbox=8, redeliver=redeliver),
            av.Pool(
                av.Application(
                    Tokenizer,
                    each,
                    root,
                    name="tokenizers",
                    executor=av.ProcessExecutor(),
                    mailbox=4 * TOKENIZERS,
                    redeliver=redeliver,
                ),
                size=TOKENIZERS,
                max_restarts=restarts,
                within=5.0,
            ),
            av.Application(Walker, each, root, name="walker", restart="transient"),
        ],
        name="pipeline",
        restart="transient",
        auto_shutdown="any",
        max_restarts=restarts,
        within=5.0,
    )
    console = av.Application(
        Console, database, name="console", executor=thread, restart="transient"
    )
    return [pipeline, console]
