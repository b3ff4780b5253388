"""Every check has a session: `nox -l` lists them, `nox` runs all but the long ones."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
DEFAULT_PYTHON = PYTHONS[0]

nox.needs_version = ">=2024.10"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "layers", "docs", "wheel", "demo", "tests"]


def name_pyenv_versions() -> None:
    """Let pyenv's shims answer to each Python in PYTHONS: they refuse one that is not named."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    if "PYENV_VERSION" in os.environ or not root.is_dir():
        return
    found: list[str] = []
    for minor in PYTHONS:
        patches = [
            int(match[1])
            for path in root.iterdir()
            if (match := re.fullmatch(re.escape(minor) + r"\.(\d+)", path.name))
        ]
        if patches:
            found.append(f"{minor}.{max(patches)}")
    if found:
        os.environ["PYENV_VERSION"] = ":".join(found)


name_pyenv_versions()


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite, with branch coverage: `nox -s tests-3.11 -- tests/core -x`."""
    session.install("-e", ".[test]")
    data = Path(session.create_tmp()).resolve()
    env = {"COVERAGE_FILE": str(data / "coverage")}
    for left in data.glob("coverage*"):
        left.unlink()
    session.run("coverage", "run", "-m", "pytest", *session.posargs, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    # Part of the tests covers part of the code: thresholds are for the whole suite.
    limits = ("0", "0") if session.posargs else ("95", "100")
    session.run("coverage", "report", f"--fail-under={limits[0]}", env=env)
    session.run(
        "coverage", "report", "--include=actorvisor/_core/*", f"--fail-under={limits[1]}", env=env
    )


@nox.session(python=DEFAULT_PYTHON)
def lint(session: nox.Session) -> None:
    """ruff's rules and format, flake8-async's own rules, spelling."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8-async", *python_files("actorvisor", "benchmarks", "examples", "tests"))
    session.run("codespell")


@nox.session(python=DEFAULT_PYTHON)
def types(session: nox.Session) -> None:
    """mypy --strict over everything, pyright over the package, and its public types complete."""
    session.install("-e", ".[lint,test]")
    session.run("mypy", "--strict")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "actorvisor", "--ignoreexternal")


@nox.session(python=DEFAULT_PYTHON)
def layers(session: nox.Session) -> None:
    """Each layer imports only what stands below it, and the core imports no outside world."""
    session.install("-e", ".[lint]")
    session.run("lint-imports", "--no-logo", "--no-cache")


@nox.session(python=DEFAULT_PYTHON)
def docs(session: nox.Session) -> None:
    """The documentation; every warning, and every reference that leads nowhere, is an error."""
    session.install("-e", ".[cli,docs]")
    shutil.rmtree("docs/_build", ignore_errors=True)
    session.run(
        "sphinx-build", "-q", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html"
    )


@nox.session(python=DEFAULT_PYTHON)
def wheel(session: nox.Session) -> None:
    """What users get: the wheel, in an environment that has nothing else."""
    tmp = Path(session.create_tmp()).resolve()
    shutil.rmtree(tmp / "dist", ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp / "dist"), ".")
    (built,) = (tmp / "dist").glob("*.whl")
    session.chdir(tmp)  # so that `actorvisor` is the installed one
    session.install(str(built))
    session.run(
        "python",
        "-c",
        "import actorvisor, pathlib; here = pathlib.Path(actorvisor.__file__).parent;"
        "assert 'site-packages' in here.parts, here; assert (here / 'py.typed').is_file()",
    )
    session.install(f"{built}[cli]")
    session.run("actorvisor", "--help")


@nox.session(python=DEFAULT_PYTHON)
def demo(session: nox.Session) -> None:
    """The example of the README, in calm and under chaos; `.ci/run` compares the two results."""
    session.install("-e", ".[cli]")
    session.run("actorvisor", "run", "examples/stdlib_index.py")
    session.run("actorvisor", "run", "examples/stdlib_index.py", "--chaos", "5")


@nox.session(python=DEFAULT_PYTHON)
def bench(session: nox.Session) -> None:
    """The benchmarks: `nox -s bench -- --help`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def soak(session: nox.Session) -> None:
    """Ten minutes of random calls and crashes: `nox -s soak -- --seconds 60 --seed 1`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", "chaos", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def million(session: nox.Session) -> None:
    """A million restarts of one service, and a million short children: nothing may grow."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", "restarts", *session.posargs)
    session.run("python", "-m", "tests.soak", "children", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def kills(session: nox.Session) -> None:
    """Processes killed at random moments, their hosts too: nothing is lost, nothing is left.

    Its limits are in seconds: run it on a machine that does nothing else.
    """
    session.install("-e", ".[test]")
    for what in ("accounting", "orphans", "incarnations", "interrupts"):
        session.run("python", "-m", "tests.kills", what, *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def same(session: nox.Session) -> None:
    """Random systems, simulated in several processes and interpreters: the same traces.

    `nox -s same -- --python python3.11 --python python3.13`
    """
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.testing.determinism", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def real(session: nox.Session) -> None:
    """The same plans of faults, simulated and on real threads and processes."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.testing.real", *session.posargs)


@nox.session(python=DEFAULT_PYTHON)
def chaos(session: nox.Session) -> None:
    """20,000 random trees, plans and schedules keep all rules, and each planted bug is found."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.testing.chaos", "--examples", "20000", *session.posargs)
    session.run("python", "-m", "tests.testing.bugs", "--seeds", "5")


@nox.session(python=DEFAULT_PYTHON)
def mutation(session: nox.Session) -> None:
    """Break the core in every small way and see which breaks its tests let through.

    `nox -s mutation -- 'actorvisor._core._strategy*'` for one module; `mutmut show NAME` for the
    difference; a second run does only what has changed.
    """
    session.install("-e", ".[mutation,test]")
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")


def python_files(*folders: str) -> list[str]:
    """All Python files below the folders, in order."""
    return sorted(str(path) for folder in folders for path in Path(folder).rglob("*.py"))
