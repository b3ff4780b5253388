"""Every python example in README.md and docs/ is run: the blocks of a page in order, in one namespace."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Final

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

PAGE: Final = "page_of_the_documentation"


class _Page(ModuleType):
    """The module that the blocks of a page make up: what they define can be pickled."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        super().__init__(PAGE)
        self.__dict__["_namespace"] = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return self._namespace[name]
        except KeyError:
            raise AttributeError(name) from None


def _begin(namespace: dict[str, Any]) -> None:
    namespace["__name__"] = PAGE
    sys.modules[PAGE] = _Page(namespace)


def _end(_: dict[str, Any]) -> None:
    del sys.modules[PAGE]


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_begin,
    teardown=_end,
).pytest()
