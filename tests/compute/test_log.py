"""The log of a node: what is appended, what a kill can tear, what a reader sees while it is written."""

import json
import math
from pathlib import Path

import pytest

from dae_ssl.compute.log import Entry, Log, Tail, curves, read
from dae_ssl.files import StoreError


def logged(path: Path, *steps: int) -> None:
    with Log(path) as log:
        for step in steps:
            log(step, {"loss": 1 / step})


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert list(read(path)) == []
    logged(path, 1, 2)
    with Log(path) as log:
        log.event("stopped", error="Interrupted", reason="asked")
    first, second, last = read(path)
    assert [(entry.step, entry.terms, entry.event) for entry in (first, second)] == [
        (1, {"loss": 1.0}, None), (2, {"loss": 0.5}, None)]  # fmt: skip
    assert (last.event, last.fields) == ("stopped", {"error": "Interrupted", "reason": "asked"})
    assert first.time <= second.time <= last.time


def test_numbers_that_are_none_are_strict_json_and_read_back(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log(1, {"nan": math.nan, "up": math.inf, "down": -math.inf})
        log.event("facts", nested={"list": [math.nan, Path("a"), None, True]})
    lines = (tmp_path / "log").read_text().splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for line in lines:
        json.loads(line, parse_constant=refuse)
    step, event = read(tmp_path / "log")
    assert math.isnan(step.terms["nan"])
    assert (step.terms["up"], step.terms["down"]) == (math.inf, -math.inf)
    assert event.fields == {"nested": {"list": ["NaN", "a", None, True]}}


def test_line_that_a_kill_tore_is_passed_over_and_ended_by_the_next_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logged(path, 1)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        kept = [1] if cut < len(whole) - 1 else [1, 1]  # all but the line's end
        assert [entry.step for entry in read(path)] == kept
        logged(path, 2)
        assert [entry.step for entry in read(path)] == [*kept, 2]


def test_log_that_is_opened_again_and_not_written_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logged(path, 1, 2)
    before = path.read_bytes()
    Log(path).close()
    assert path.read_bytes() == before


def test_fields_that_the_log_writes_itself_are_refused(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log, pytest.raises(ValueError, match="'time' is written by the log itself"):
        log.event("started", time=3)


def test_folder_that_is_not_there_is_one_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no/log"):
        Log(tmp_path / "no" / "log")


def test_point_that_a_resumed_run_logs_again_keeps_its_first_value(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        for step, loss in ((1, 3.0), (2, 2.0), (2, 7.0), (3, 1.0)):
            log(step, {"loss": loss} | ({"rate": 0.5} if step == 3 else {}))
    found = {term: [(step, value) for step, value, _ in points] for term, points in curves(tmp_path / "log").items()}
    assert found == {"loss": [(1, 3.0), (2, 2.0), (3, 1.0)], "rate": [(3, 0.5)]}


def test_tail_reads_what_is_new_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path, tail = tmp_path / "log", Tail(tmp_path / "log")

    def steps() -> list[int | None]:
        return [entry.step for entry in tail.entries()]

    assert steps() == []
    logged(path, 1)
    assert (steps(), steps()) == ([1], [])
    logged(path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert steps() == []
    path.write_bytes(whole)
    assert steps() == [2]
    path.unlink()
    logged(path, 5)  # a node that was deleted and is computed anew
    assert steps() == [5]


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('[]\n3\nno\n{"time": 1}\n{"time": 1, "step": "x", "terms": {}}\n{"time": 2, "event": "ok"}\n')
    assert list(read(path)) == [Entry(2.0, event="ok")]
