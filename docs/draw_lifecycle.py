"""The directive ``lifecycle``: a diagram, a table and a list, drawn from the code's own table."""

from __future__ import annotations

import ast
import inspect
import math
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from actorvisor._core._lifecycle import TABLE, Event, Notice, State

if TYPE_CHECKING:
    from sphinx.application import Sphinx

WIDTH, HEIGHT = 960, 560
BOX = (112, 36)
# Where each state stands; a new state has to be given its place here, or the build fails.
PLACES = {
    State.WAITING: (100, 40),
    State.STARTING: (480, 40),
    State.RUNNING: (860, 40),
    State.BACKING_OFF: (100, 280),
    State.EXITED: (480, 280),
    State.STOPPING: (860, 280),
    State.STOPPED: (280, 520),
    State.FAILED: (680, 520),
}
# How far along the arrows from a state their labels stand, so that they keep clear of others.
ALONG = {State.WAITING: 0.25, State.STOPPED: 0.2, State.FAILED: 0.2}
STYLE = """
.lifecycle { max-width: 100%; height: auto; font: 13px sans-serif; }
.lifecycle rect { fill: none; stroke: currentColor; stroke-width: 1.5; }
.lifecycle path { fill: none; stroke: currentColor; opacity: 0.55; }
.lifecycle marker path { fill: currentColor; opacity: 1; }
.lifecycle text { fill: currentColor; text-anchor: middle; dominant-baseline: middle; }
.lifecycle .state { font-weight: bold; }
.lifecycle .event { font-size: 11px; paint-order: stroke;
  stroke: var(--color-background-primary, white); stroke-width: 4px; }
"""

Point = tuple[float, float]


def edges() -> dict[tuple[State, State], tuple[list[Event], Notice | None]]:
    """The transitions from one state to another, with all events that lead there."""
    events: dict[tuple[State, State], list[Event]] = defaultdict(list)
    notices: dict[tuple[State, State], set[Notice | None]] = defaultdict(set)
    for (state, event), step in TABLE.items():
        if step.state is not state:
            events[state, step.state].append(event)
            notices[state, step.state].add(step.notice)
    return {pair: (found, *notices[pair]) for pair, found in events.items()}  # type: ignore[misc]


def border(center: Point, towards: Point) -> Point:
    """Where the line from a box's center leaves the box."""
    dx, dy = towards[0] - center[0], towards[1] - center[1]
    scale = min(
        (BOX[0] / 2 + 3) / abs(dx) if dx else math.inf,
        (BOX[1] / 2 + 3) / abs(dy) if dy else math.inf,
    )
    return center[0] + dx * scale, center[1] + dy * scale


def diagram() -> str:
    """The diagram, as SVG."""
    pairs = edges()
    parts = [
        f'<svg class="lifecycle" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="States of an actor" xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="9" '
        'markerHeight="9" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>',
    ]
    labels = []
    for (source, target), (events, notice) in pairs.items():
        start, end = PLACES[source], PLACES[target]
        if (target, source) in pairs:  # two ways: beside each other
            length = math.dist(start, end)
            aside = (
                -(end[1] - start[1]) / length * 16,
                (end[0] - start[0]) / length * 16,
            )
            start = (start[0] + aside[0], start[1] + aside[1])
            end = (end[0] + aside[0], end[1] + aside[1])
        a, b = border(start, end), border(end, start)
        parts.append(
            f'<path d="M{a[0]:.1f},{a[1]:.1f} L{b[0]:.1f},{b[1]:.1f}" marker-end="url(#tip)"/>'
        )
        at = ALONG.get(source, 0.36)
        x, y = a[0] + (b[0] - a[0]) * at, a[1] + (b[1] - a[1]) * at
        said = ", ".join(event.value for event in events)
        told = "" if notice is None else f"({notice.name.title()})"
        labels.append(
            f'<text class="event" x="{x:.1f}" y="{y - 7:.1f}">{escape(said)}'
            f'<tspan x="{x:.1f}" dy="14">{told}</tspan></text>'
        )
    for state, (x, y) in PLACES.items():
        parts.append(
            f'<rect x="{x - BOX[0] / 2}" y="{y - BOX[1] / 2}" width="{BOX[0]}" height="{BOX[1]}" '
            f'rx="8"/><text class="state" x="{x}" y="{y}">{state.value}</text>'
        )
    return "".join([*parts, *labels, "</svg>"])


def cell(state: State, event: Event) -> str:
    step = TABLE.get((state, event))
    if step is None:
        return ""
    if step.refused:
        return "refused"
    if step.state is state:
        return "stays"
    told = "" if step.notice is None else f" ({step.notice.name.title()})"
    return f"**{step.state.value}**{told}"


def table() -> list[str]:
    """The whole table, in Markdown."""
    assert set(PLACES) == set(State)
    rows = [["", *(f"`{state.value}`" for state in State)], ["---"] * (len(State) + 1)]
    rows += [[f"`{event.value}`", *(cell(state, event) for state in State)] for event in Event]
    return [f"| {' | '.join(row)} |" for row in rows]


def events() -> list[str]:
    """What each event is, in the words of the code, in Markdown."""
    (definition,) = ast.parse(inspect.getsource(Event)).body
    assert isinstance(definition, ast.ClassDef)
    lines: list[str] = []
    for statement in definition.body:
        match statement:
            case ast.Assign(targets=[ast.Name(name)]) if name in Event.__members__:
                lines += [f"`{Event[name].value}`"]
            case ast.Expr(ast.Constant(str(text))) if lines:
                lines += [f": {text}", ""]
            case _:
                pass
    assert len(lines) == 3 * len(Event)
    return lines


class Lifecycle(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "diagram":
            return [nodes.raw("", diagram(), format="html")]
        lines = {"table": table, "events": events}[self.arguments[0]]()
        found = nodes.container()
        self.state.nested_parse(StringList(lines, source="lifecycle"), self.content_offset, found)
        return found.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("lifecycle", Lifecycle)
    return {"parallel_read_safe": True}
