"""What a person who watches is shown, on a terminal and in a file."""

import sys
import time

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute.nodes import needed
from jobs import terminal
from jobs.terminal import Board, Terminal


def test_progress_in_a_file_is_a_line_a_minute_for_each_lane(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    board = Board({})
    for second in range(0, 151, 10):
        now = float(second)
        board.progress(0, "cell 0: pretrain", 100 + second, 1000)
        board.progress(1, "cell 1: probe", 1 + second // 75, 10)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("%")[0] for line in lines] == [
        "cell 0: pretrain:  16", "cell 1: probe:  10", "cell 0: pretrain:  22", "cell 1: probe:  20"]  # fmt: skip
    assert "1.00step/s" in lines[0]
    board.still(0)
    board.progress(0, "cell 2: pretrain", 1, 1000)
    assert capsys.readouterr().err == "", "what has just begun is not told yet"


def test_progress_on_a_terminal_is_a_bar_for_each_lane_and_goes_on_from_where_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    board = Board({})
    for step in range(40, 46):
        board.progress(0, "cell 0: pretrain", step, 100)
        board.progress(1, "cell 1: probe", step - 39, 10)
        time.sleep(0.11)
    board.still(0)
    board.still(1)
    printed = capsys.readouterr().err
    assert "cell 0: pretrain:  45%" in printed
    assert "cell 1: probe:  60%" in printed
    assert printed.count("00:00<?, ?step/s") == 2, "each bar begins once"


def test_one_cell_after_another_shows_which_stage_of_how_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    with Terminal(7, silent=False) as shown:
        shown.begin("pretrain", "this cell", done=True)
        shown.begin("features", "this cell", done=False)
        shown.begin("probe", "this cell", done=False)
        for second in range(0, 91, 10):
            now = float(second)
            shown.progress("probe", 1 + second, 181)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "[1/7] pretrain of this cell: done already",
        "[2/7] features of this cell",
        "[3/7] probe of this cell",
    ]
    (line,) = err.splitlines()
    assert line.startswith("[3/7] probe of this cell:  34%")
    assert "[01:00<02:00,  1.00step/s]" in line, "the time left"


def test_bar_of_a_stage_names_it_and_goes_with_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    with Terminal(3, silent=False) as shown:
        for stage in ("pretrain", "probe"):
            shown.begin(stage, "this cell", done=False)
            for step in range(1, 6):
                shown.progress(stage, step, 20)
                time.sleep(0.11)
        shown.begin("kmeans", "this cell", done=False)
        printed = capsys.readouterr().err
    assert "[1/3] pretrain of this cell:  25%" in printed
    assert "[2/3] probe of this cell:  25%" in printed
    assert printed.endswith("\r"), "no bar is left beside a stage that has none"


def test_silent_rank_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal(2, silent=True) as shown:
        shown.begin("pretrain", "this cell", done=False)
        shown.progress("pretrain", 1, 2)
        shown.tell("a line")
    assert capsys.readouterr() == ("", "")


def test_node_is_called_by_its_cell_and_by_how_many_more_share_it() -> None:
    cells = [config.cell({}, method={"name": "ae"}, probe={"epochs": epochs}) for epochs in (1, 2, 3)]
    board = Board({config.cell_key(cell): f"row {number}" for number, cell in enumerate(cells)})
    called = {board.called(node) for node in needed(cells).values()}
    assert called == {"row 0 and 2 more cells", "row 0", "row 1", "row 2"}
