"""Show the table of an experiment's cells and their states, once or updated every few seconds.

On a terminal it has colours and fits the window. It is plain text in a file, on a terminal that cannot move its cursor,
and if rich is not installed.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dae_ssl import config
from dae_ssl.cluster.status import WORDS, Seen
from dae_ssl.compute.nodes import Node, NodeId
from dae_ssl.config import Cell

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

Labelled = Sequence[tuple[str, Cell]]
"""Labels and cells, in the order in which they are shown."""
State = Mapping[NodeId, tuple[Seen, Node]]
"""The state of every node of the cells."""

EVERY_SECONDS = 5.0
FIRST = ("failed", "running", "waiting", "missing", "done")
"""The states, the most important first; the state of a cell is the most important one among its stages."""
STYLES = {"failed": "bold red", "running": "cyan", "waiting": "yellow", "missing": "dim", "done": "green"}
KEY_WIDTH, WORD_WIDTH, GAP = 16, 8, 2
LABEL_LEAST, NOTE_LEAST, NOTE_WANTED = 12, 12, 40
"""The fewest characters with which a label and a note are shown, and those that a very long label leaves to notes."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a cell and the states of its stages."""

    label: str
    key: str
    stages: Mapping[str, Seen]

    def word(self, stage: str) -> str:
        """Return the text in the column of a stage: its state, or its score if it is done and has one."""
        if stage not in self.stages:
            return "-"
        seen = self.stages[stage]
        return seen.detail if stage in ("probe", "kmeans") and seen.word == "done" else seen.word

    @property
    def state(self) -> str:
        """The state of the whole cell."""
        return next((word for word in FIRST if any(seen.word == word for seen in self.stages.values())), "missing")

    @property
    def note(self) -> str:
        """The most important detail on the stages that are not done, in one line."""
        for word in FIRST[:-1]:
            for stage, seen in self.stages.items():
                if seen.word == word and seen.detail:
                    return _printable(f"{stage}: {seen.detail.splitlines()[0]}")
        return ""

    @property
    def brief(self) -> str:
        """The state of the cell and the stage that is in it, for a narrow window."""
        stage = next((stage for stage, seen in self.stages.items() if seen.word == self.state), "")
        return self.state if self.state == "done" else f"{self.state} {stage}"


def show(labelled: Labelled, state: State) -> None:
    """Print a line for each cell with its label, and the number of nodes in each state."""
    console, rows = _console(), _rows(labelled, state)
    if console is None:
        print(plain(rows, state))
        return
    console.print(_table(rows, rows, console.width), _text(_counted(state)), sep="\n")


def watch(labelled: Labelled, look: Callable[[], State], *, seconds: float = EVERY_SECONDS) -> State:
    """Show the state that `look` returns every few seconds until nothing runs or waits; return the last state.

    On a terminal the table fills the alternate screen; at the end, also after Ctrl-C, the whole table is printed. In a
    file a table is printed whenever something has changed.
    """
    console = _console()
    return _print_changes(labelled, look, seconds) if console is None else _live(console, labelled, look, seconds)


def plain(rows: Sequence[Row], state: State) -> str:
    """Return the table as plain text."""
    width = max((len(row.label) for row in rows), default=0)
    head = f"{'':{width}}  {'cell':{KEY_WIDTH}}  " + "  ".join(f"{stage:{WORD_WIDTH}}" for stage in config.STAGES)
    lines = [head.rstrip()]
    for row in rows:
        words = "  ".join(f"{row.word(stage):{WORD_WIDTH}}" for stage in config.STAGES)
        lines.append(f"{row.label:{width}}  {row.key}  {words}  {row.note}".rstrip())
    return "\n".join([*lines, _counted(state)])


def _rows(labelled: Labelled, state: State) -> list[Row]:
    return [
        Row(label, config.cell_key(cell), {stage: state[stage, key][0] for stage, key in config.keys(cell).items()})
        for label, cell in labelled
    ]


def _counted(state: State) -> str:
    counts = Counter(seen.word for seen, _ in state.values())
    return f"{len(state)} nodes: " + ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])


def _busy(state: State) -> bool:
    return any(seen.word in ("running", "waiting") for seen, _ in state.values())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _cursor_moves() -> bool:
    """Return whether standard output is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _console() -> "Console | None":
    """Return the rich console of standard output; None if the output is plain text."""
    if not _cursor_moves():
        return None
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    return Console(highlight=False)


def _print_changes(labelled: Labelled, look: Callable[[], State], seconds: float) -> State:
    printed = ""
    while True:
        state = look()
        text = plain(_rows(labelled, state), state)
        if text != printed:
            print(f"\033[H\033[2J{text}" if _cursor_moves() else text, flush=True)  # clears a terminal's screen
            printed = text
        if not _busy(state):
            return state
        time.sleep(seconds)


def _live(console: "Console", labelled: Labelled, look: Callable[[], State], seconds: float) -> State:
    from rich.live import Live

    state = look()
    screen = _Screen(_rows(labelled, state), state)
    # A thread draws it four times a second, so that it follows the size of the window.
    live = Live(screen, console=console, screen=True)
    try:
        if _busy(state):
            live.start(refresh=True)
        while _busy(state):
            time.sleep(seconds)
            state = look()
            screen.update(_rows(labelled, state), state)
    finally:
        live.stop()  # not by `with`, which would not restore the screen if Ctrl-C came while it is entered
        show(labelled, state)
    return state


class _Screen:
    """A table that fits the screen: it shows the most important cells and counts the others."""

    def __init__(self, rows: Sequence[Row], state: State) -> None:
        self.update(rows, state)

    def update(self, rows: Sequence[Row], state: State) -> None:
        counted = f"{_counted(state)}; as of {time.strftime('%H:%M:%S')}"
        self._shown = rows, counted  # both at once, since another thread draws them

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        rows, counted = self._shown
        room = (options.height or console.height) - 2  # minus the header and the line below the table
        chosen, rest = rows, ""
        if len(rows) > room:
            by_importance = sorted(rows, key=lambda row: FIRST.index(row.state))  # a stable sort
            chosen, hidden = by_importance[: max(0, room - 1)], by_importance[max(0, room - 1) :]
            counts = Counter(row.state for row in hidden)
            rest = f"and {len(hidden)} more cells: " + ", ".join(f"{counts[w]} {w}" for w in FIRST if counts[w])
        yield _table(chosen, rows, options.max_width)
        if rest:
            yield _text(rest)
        yield _text(counted)


def _text(line: str) -> "Text":
    from rich.text import Text

    return Text(line, no_wrap=True, overflow="ellipsis")


def _table(rows: Sequence[Row], every: Sequence[Row], width: int) -> "Table":
    """Return some of the rows as a table of at most `width` characters, laid out so that every row would fit.

    A narrow window leaves out first the notes, then the labels; the key and the state of a cell are always shown.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="")

    def column(name: str, characters: int) -> None:
        table.add_column(name, width=characters, no_wrap=True, overflow="ellipsis")

    words = len(config.STAGES) * (GAP + WORD_WIDTH)
    room = width - KEY_WIDTH - words - GAP
    if room + GAP < 0:
        column("cell", KEY_WIDTH)
        column("", max(1, width - KEY_WIDTH - GAP))
        for row in rows:
            table.add_row(row.key, Text(row.brief, style=STYLES[row.state]))
        return table
    longest = max((len(row.label) for row in every), default=0)
    label = min(longest, max(room // 2, room - GAP - NOTE_WANTED))
    note = room - label - GAP
    if note < NOTE_LEAST:
        label, note = min(longest, room) if room >= LABEL_LEAST else 0, 0
    if label:
        column("", label)
    column("cell", KEY_WIDTH)
    for stage in config.STAGES:
        column(stage, WORD_WIDTH)
    if note:
        column("", note)
    for row in rows:
        styles = {stage: STYLES[seen.word] for stage, seen in row.stages.items()}
        cells = [Text(row.word(stage), style=styles.get(stage, "dim")) for stage in config.STAGES]
        left, right = [Text(_printable(row.label))] if label else [], [Text(row.note)] if note else []
        table.add_row(*left, row.key, *cells, *right)
    return table
