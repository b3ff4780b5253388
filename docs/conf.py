"""Sphinx configuration. The build needs no network, so there is no intersphinx."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import actorvisor as av

if TYPE_CHECKING:
    from docutils.nodes import Element, TextElement
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

sys.path.insert(0, str(Path(__file__).parent))  # draw_lifecycle

metadata = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))

project = metadata["project"]["name"]
release = metadata["project"]["version"]
version = release
author = "the actorvisor contributors"
project_copyright = author

extensions = [
    "draw_lifecycle",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# sphinxcontrib_trio extends the documenters that Sphinx 9 calls legacy. With the new ones it is
# silently left out: `async with open_host()` is shown as a plain call.
autodoc_use_legacy_class_based = True
napoleon_numpy_docstring = False

# Every reference must lead somewhere, except to what other projects document...
nitpicky = True
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(collections|concurrent|contextlib|contextvars|cyclopts|datetime|enum|hypothesis"
        r"|logging|os|outcome|pathlib|pytest|random|rich|signal|st|trio|trio_parallel|types|typing)\..+",
    ),
    # ... to type variables: T, Ts, S_co, P.args ...
    ("py:.*", r"(actorvisor\..+\.)?_?[A-Z][A-Za-z]?(_co|_contra)?(\.args|\.kwargs)?"),
    # ... to what is spelled out where it is used, and to what only the library makes.
    (
        "py:.*",
        r"Strategy|OnLimit|AutoShutdown|StartOrder|Restart|Overflow|Verdict|Kind|StartMethod"
        r"|Declaration|Json|Message|OpenHost",
    ),
    ("py:.*", r"(actorvisor\._.*\.)?(Choice|EventStream|Incarnation|Mailbox|Post)"),
    ("py:.*", r"AbstractAsyncContextManager|AsyncGenerator|Callable|Mapping|TracebackType"),
]


def link_to_public_name(
    app: Sphinx, env: BuildEnvironment, node: Element, contnode: TextElement
) -> Element | None:
    """Link `actorvisor._core._ids.Path`, where it is defined, to `actorvisor.Path`, as it is documented."""
    target = node.get("reftarget", "")
    public = re.sub(r"\._\w+", "", target)
    if public.startswith(("actorvisor.executors.", "actorvisor.abc.")):
        name = public.rpartition(".")[2]
        public = f"actorvisor.{name}" if hasattr(av, name) else public
    elif "." not in public:
        module = "actorvisor" if hasattr(av, public) else "actorvisor.testing"
        public = f"{module}.{public}"
    if node.get("refdomain") != "py" or public == target:
        return None
    python = env.domains["py"]
    found: Element | None = python.resolve_xref(
        env, node["refdoc"], app.builder, "obj", public, node, contnode
    )
    return found


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", link_to_public_name)
