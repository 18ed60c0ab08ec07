"""The table of cells: plain in a file, coloured and fitting on a terminal, its own screen while somebody watches."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster.status import Seen
from dae_ssl.compute import nodes
from jobs import board
from jobs.board import Labelled, State
from tests.patience import PATIENCE

DONE = {
    "pretrain": Seen("done"),
    "features": Seen("done"),
    "probe": Seen("done", "71.25 %"),
    "kmeans": Seen("done", "9.50 %"),
}
TRAINS = dict.fromkeys(config.STAGES, Seen("missing")) | {"pretrain": Seen("running", "epoch 3/10, loss 0.04")}
FAILED = DONE | {"probe": Seen("failed", "ValueError: [bold]no\nmore"), "kmeans": Seen("missing")}
MISSING = dict.fromkeys(config.STAGES, Seen("missing"))
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


def table(*stages: dict[str, Seen]) -> tuple[Labelled, State]:
    """Return cells of seeds 0, 1, ... and the state that each is in."""
    labelled = [(f"autoencoder, seed {seed}", config.cell(method="ae", seed=seed)) for seed in range(len(stages))]
    needed = nodes.needed(cell for _, cell in labelled)
    words = {node: seen for (_, cell), of in zip(labelled, stages, strict=True)
             for stage, seen in of.items() for node in [(stage, config.keys(cell)[stage])]}  # fmt: skip
    return labelled, {id: (words[id], node) for id, node in needed.items()}


def key(labelled: Labelled, place: int) -> str:
    return config.cell_key(labelled[place][1])


def lines_of(stages: list[dict[str, Seen]], columns: int, lines: int) -> list[str]:
    """Return the lines that somebody who watches has on a screen of this size."""
    from rich.console import Console

    labelled, state = table(*stages)
    console = Console(file=io.StringIO(), width=columns, height=lines, force_terminal=True, color_system="standard")
    console.print(board._Screen(board._rows(labelled, state), state), height=lines)
    shown = ESCAPE.sub("", console.file.getvalue()).splitlines()
    return [line.rstrip() for line in shown]


# ---------------------------------------------------------------------------------- in a file


def test_file_gets_plain_text_with_score_state_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    labelled, state = table(DONE, TRAINS, FAILED)
    board.show(labelled, state)
    assert (
        capsys.readouterr().out
        == f"""\
                     cell              pretrain  features  probe     kmeans
autoencoder, seed 0  {key(labelled, 0)}  done      done      71.25 %   9.50 %
autoencoder, seed 1  {key(labelled, 1)}  running   missing   missing   missing   pretrain: epoch 3/10, loss 0.04
autoencoder, seed 2  {key(labelled, 2)}  done      done      failed    missing   probe: ValueError: [bold]no
12 nodes: 6 done, 1 running, 1 failed, 4 missing
"""
    )


def test_watching_into_a_file_prints_what_changed_only_and_ends_with_the_last_that_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    states = iter([TRAINS, TRAINS, TRAINS, DONE])
    state = board.watch(table(TRAINS)[0], lambda: table(next(states))[1], seconds=0)
    printed = capsys.readouterr().out
    assert printed.count("cell ") == 2
    assert "\x1b" not in printed
    assert "4 nodes: 4 done" in printed.splitlines()[-1]
    assert state.keys() == table(DONE)[1].keys()
    assert next(states, None) is None


# ---------------------------------------------------------------------------------- what is on the screen


@pytest.mark.parametrize("columns", [34, 40, 56, 60, 75, 80, 100, 120, 200])
def test_key_and_state_are_whole_at_every_width_and_no_line_is_wider(columns: int) -> None:
    labelled, _ = table(DONE, TRAINS, FAILED)
    head, done, trains, failed, *_ = lines = lines_of([DONE, TRAINS, FAILED], columns, 24)
    assert max(map(len, lines)) <= columns
    for place, line in enumerate((done, trains, failed)):
        assert key(labelled, place) in line
    if columns < 56:
        assert (done.split()[-1], *trains.split()[-2:], *failed.split()[-2:]) == (
            "done", "running", "pretrain", "failed", "probe"
        )  # fmt: skip
    else:
        assert head.split() == ["cell", *config.STAGES]
        assert re.search(r"done +done +71\.25 % +9\.50 %", done)
        assert re.search(r"running +missing +missing +missing", trains)
        assert re.search(r"done +done +failed +missing", failed)
    assert ("autoencoder, seed 0" in done) == (columns >= 80)
    assert ("loss 0.04" in trains) == (columns >= 120)


def test_what_is_told_of_a_failure_is_no_markup_and_no_control_sequence() -> None:
    sly = FAILED | {"probe": Seen("failed", "[red]no[/red] \x1b[2J\x07")}
    shown = "\n".join(lines_of([sly], 200, 24))
    assert "probe: [red]no[/red]  [2J" in shown
    assert "\x07" not in shown


def test_long_table_shows_what_failed_and_runs_first_and_counts_the_rest() -> None:
    every = [DONE] * 600 + [MISSING] * 290 + [TRAINS] * 6 + [FAILED] * 4
    labelled, _ = table(*every)
    head, *lines = lines_of(every, 120, 24)
    assert len([head, *lines]) == 24
    *shown, rest, counted = lines
    assert [line.split()[3] for line in shown] == [
        key(labelled, p) for p in (*range(896, 900), *range(890, 896), *range(600, 611))
    ]
    assert rest == f"and {900 - len(shown)} more cells: 279 missing, 600 done"
    assert counted.startswith("3600 nodes: 2408 done, 6 running, 4 failed, 1182 missing; as of ")


def test_table_that_fits_keeps_its_order() -> None:
    labelled, _ = table(DONE, FAILED, TRAINS)
    shown = lines_of([DONE, FAILED, TRAINS], 120, 6)
    assert [line.split()[3] for line in shown[1:4]] == [key(labelled, place) for place in range(3)]
    assert len(shown) == 5


# ---------------------------------------------------------------------------------- on a terminal


class Terminal:
    """A terminal in which a child process runs; what it has written so far."""

    def __init__(self, pid: int, master: int) -> None:
        self.pid, self.master, self.written = pid, master, ""

    def read_until(self, done: Callable[[str], bool], seconds: float = PATIENCE) -> str:
        """Return all that was written once that is enough, or the process has ended."""
        deadline = time.monotonic() + seconds
        with suppress(OSError):  # which Linux raises when the other side is closed
            while not done(self.written):
                assert time.monotonic() < deadline, self.written[-2000:]
                part = os.read(self.master, 1 << 16)
                if not part:
                    break
                self.written += part.decode()
        return self.written

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self) -> int:
        """Read to the end and return the exit code."""
        self.read_until(lambda _text: False)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Run a function on a terminal of its own."""
    opened: list[Terminal] = []

    def run(work: Callable[[], object], columns: int = 120, lines: int = 12, **variables: str) -> Terminal:
        pid, master = pty.fork()
        if pid == 0:
            code = 1
            try:
                for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM"):
                    os.environ.pop(name, None)
                os.environ |= {"TERM": "xterm-256color"} | variables
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
                sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
                signal.signal(signal.SIGINT, signal.default_int_handler)
                work()
                code = 0
            except KeyboardInterrupt:
                code = 130
            finally:
                sys.stdout.flush()
                os._exit(code)
        opened.append(Terminal(pid, master))
        return opened[-1]

    yield run
    for terminal in opened:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        os.close(terminal.master)


def watching(*stages: dict[str, Seen], seconds: float = 0.4) -> Callable[[], object]:
    """Return a function that watches a cell which is in one state after another, and stays in the last."""
    states = iter(stages)
    return lambda: board.watch(table(DONE)[0], lambda: table(next(states, stages[-1]))[1], seconds=seconds)


LEFT = "\x1b[?1049l"


def test_watched_table_has_its_own_screen_is_never_cleared_and_stays_behind_whole(
    terminal: Callable[..., Terminal],
) -> None:
    seen = terminal(watching(TRAINS, TRAINS, DONE))
    assert seen.end() == 0
    screen, behind = seen.written.split(LEFT)
    assert screen.startswith("\x1b[?1049h")
    assert "running" in screen
    assert screen.count("\x1b[H") > 2
    assert "\x1b[2J" not in screen.replace("\x1b[?1049h\x1b[H", "")
    assert "\x1b[?25h" in seen.written.split("\x1b[?25l")[-1]  # the cursor is there again
    assert "71.25 %" in behind
    assert "4 nodes: 4 done" in behind
    assert COLOUR.search(screen)
    assert COLOUR.search(behind)


def test_nothing_to_watch_needs_no_screen(terminal: Callable[..., Terminal]) -> None:
    seen = terminal(watching(DONE))
    assert seen.end() == 0
    assert "\x1b[?1049h" not in seen.written
    assert "4 nodes: 4 done" in seen.written


def test_watched_table_follows_the_size_of_the_window(terminal: Callable[..., Terminal]) -> None:
    seen = terminal(watching(TRAINS, seconds=600))
    seen.read_until(lambda text: "loss 0.04" in text)
    seen.resize(40, 6)
    before = len(seen.written)
    seen.read_until(lambda text: text[before:].count("\x1b[H") > 3)
    last = seen.written.split("\x1b[H")[-2]
    lines = ESCAPE.sub("", last).replace("\r", "").split("\n")
    assert len(lines) == 6
    assert max(map(len, lines)) <= 40
    assert f"{key(table(TRAINS)[0], 0)}  running pretrain" in lines[1]


def test_ctrl_c_leaves_the_screen_and_the_last_table(terminal: Callable[..., Terminal]) -> None:
    seen = terminal(watching(TRAINS, seconds=600))
    seen.read_until(lambda text: "running" in text)
    os.write(seen.master, b"\x03")
    assert seen.end() == 130
    _screen, behind = seen.written.split(LEFT)
    assert "Traceback" not in seen.written
    assert "\x1b[?25h" in seen.written.split("\x1b[?25l")[-1]
    assert "running" in behind


def test_error_while_watching_leaves_the_screen_first(terminal: Callable[..., Terminal]) -> None:
    labelled, state = table(TRAINS)
    states = iter([state])

    def work() -> None:
        try:
            board.watch(labelled, lambda: next(states), seconds=0.3)
        except StopIteration:
            print("no more")

    seen = terminal(work)
    assert seen.end() == 0
    assert "no more" in seen.written.split(LEFT)[1]


def test_terminal_that_prints_letters_only_gets_nothing_else(terminal: Callable[..., Terminal]) -> None:
    seen = terminal(watching(TRAINS, DONE), TERM="dumb")
    assert seen.end() == 0
    assert "\x1b" not in seen.written
    assert seen.written.count("cell ") == 2


def test_no_color_is_honoured(terminal: Callable[..., Terminal]) -> None:
    seen = terminal(watching(TRAINS, DONE), NO_COLOR="1")
    assert seen.end() == 0
    assert "\x1b[?1049h" in seen.written
    assert not COLOUR.search(seen.written)


def test_without_rich_a_terminal_has_the_plain_table(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rich", "rich.console", "rich.live"):
        monkeypatch.setitem(sys.modules, name, None)
    seen = terminal(watching(TRAINS, DONE))
    assert seen.end() == 0
    assert seen.written.count("\x1b[H\x1b[2J") == 2
    assert not COLOUR.search(seen.written)
    assert f"{key(table(TRAINS)[0], 0)}  running   missing   missing   missing   pretrain: epoch 3/10" in seen.written
