"""A plan on lanes that play: what becomes of a node whose process dies, stopping in time; and cells, without lanes."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dae_ssl import config
from dae_ssl.compute import log, running
from dae_ssl.compute.nodes import Node
from dae_ssl.compute.running import Round
from tests.compute.played import Played, cell, name


def test_process_of_a_lane_computes_one_node_after_another(tmp_path: Path) -> None:
    played = Played(tmp_path, "say('progress', stage, 1, 2)\nsay('tell', 'half')\nprint('well', file=sys.stderr)")
    played.run()
    assert played.states() == ["done"] * 8
    assert sorted(played.done) == sorted(map(name, played.order.nodes))
    assert len({process for _, process in played.begun()}) == 2
    told = [line for line in played.shown.lines if not line.startswith("[")]
    assert {"lane 0, cell 0: pretrain 1/2", "cell 0: half", "! cell 0: well"} <= set(told)
    begun = [line for line in played.shown.lines if line.startswith("[")]
    assert begun[:2] == [f"[{n + 1}/8] pretrain {config.key(cell(n), 'pretrain')}: cell {n}" for n in range(2)]


def test_what_is_beside_the_lanes_is_called_once_they_are_at_work_again(tmp_path: Path) -> None:
    played = Played(tmp_path, "", cells=2, lanes=1)
    begun_when_told: dict[str, int] = {}
    work = Round(played.order, played.lanes, played.shown, played.store)

    def beside(done: Sequence[Node]) -> None:
        begun_when_told.update({name(node): len(played.order.begun) for node in done})

    work.to_the_end(lambda: False, beside)
    played.lanes[0].kill()
    assert list(begun_when_told.values()) == [2, 3, 4, 5, 6, 7, 8, 8]


def test_node_whose_process_is_killed_is_tried_again_in_a_new_one(tmp_path: Path) -> None:
    played = Played(tmp_path, "if (stage, seed, tries) == ('features', 0, 1): os.kill(os.getpid(), 9)", lanes=1)
    played.run()
    assert played.states() == ["done"] * 8
    assert [begun for begun, _ in played.begun()].count("features 0") == 2
    assert len({process for _, process in played.begun()}) == 2
    assert any("features: its process was killed by SIGKILL: out of memory?; it goes on" in line
               for line in played.shown.lines)  # fmt: skip


@pytest.mark.parametrize("max_failures", [0, 2])
def test_node_that_kills_every_process_is_given_up_and_its_log_says_why(max_failures: int, tmp_path: Path) -> None:
    program = (
        "if (stage, seed) == ('pretrain', 0): print('last words', file=sys.stderr, end='', flush=True), os.abort()"
    )
    played = Played(tmp_path, program, max_failures=max_failures)
    played.run()
    assert played.states() == ["failed", *["left out"] * 3, *["done"] * 4]
    assert [begun for begun, _ in played.begun()].count("pretrain 0") == max_failures + 1
    *_, last = log.read(played.store.node("pretrain", config.key(cell(0), "pretrain")).log)
    assert (last.event, last.fields["error"]) == ("stopped", "Killed")
    assert last.fields["reason"] == f"its process was killed by SIGABRT; given up after {max_failures + 1} times"
    assert "! cell 0: last words" in played.shown.lines


def test_process_that_ends_without_an_answer_has_died(tmp_path: Path) -> None:
    played = Played(tmp_path, "if stage == 'probe': sys.exit(0)", cells=1, lanes=1, max_failures=0)
    played.run()
    assert played.states() == ["done", "done", "failed", "done"]
    assert any("its process ended by itself, with exit code 0" in line for line in played.shown.lines)


def test_failed_node_is_not_tried_again_and_leaves_the_process_to_no_other(tmp_path: Path) -> None:
    played = Played(tmp_path, "code = int((stage, seed) == ('features', 0))", lanes=1)
    played.run()
    assert played.states() == ["done", "failed", "left out", "left out", *["done"] * 4]
    processes = dict(played.begun())
    assert processes["pretrain 0"] == processes["features 0"] != processes["pretrain 1"] == processes["kmeans 1"]
    assert "! cell 0: features failed; 2 nodes that need it are left out" in played.shown.lines


@pytest.mark.parametrize("code", [75, 143])
def test_code_that_says_try_again_is_tried_again(code: int, tmp_path: Path) -> None:
    played = Played(tmp_path, f"code = {code} * ((stage, tries) == ('pretrain', 1))", cells=1)
    played.run()
    assert played.states() == ["done"] * 4
    assert [begun for begun, _ in played.begun()].count("pretrain 0") == 2


# ---------------------------------------------------------------------------------- stopping in time

SAVES = """
def saves(*_): (here / f'saved{seed}').touch(), say('ended', 143), sys.exit()
signal.signal(signal.SIGTERM, saves)
if stage == 'pretrain' and seed: time.sleep(60)
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_SECONDS", 3.0)
    monkeypatch.setattr(running, "LAST_SECONDS", 1.0)


def begun_by(played: Played, wanted: str) -> Callable[[], bool]:
    return lambda: wanted in dict(played.begun())


@pytest.mark.usefixtures("quick")
def test_lane_that_trains_is_asked_to_save_at_once(tmp_path: Path) -> None:
    played = Played(tmp_path, SAVES)
    began = time.monotonic()
    played.run(lambda: begun_by(played, "pretrain 1")() and "kmeans 0" in played.done)
    assert (tmp_path / "saved1").exists()
    assert time.monotonic() - began < 30
    assert played.states() == [*["done"] * 4, *["waiting"] * 4]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("seconds", "state"), [(1.0, "done"), (60.0, "waiting")])
def test_stage_that_saves_nothing_may_finish_within_the_grace(seconds: float, state: str, tmp_path: Path) -> None:
    played = Played(tmp_path, SAVES + f"if stage == 'kmeans': time.sleep({seconds})", cells=1, lanes=1)
    played.run(begun_by(played, "kmeans 0"))
    assert played.states() == ["done", "done", "done", state]
    assert (tmp_path / "saved0").exists() == (state == "waiting"), "asked to end before it is killed"


@pytest.mark.usefixtures("quick")
def test_process_that_does_not_listen_is_killed_when_the_grace_is_over(tmp_path: Path) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif stage == 'features': time.sleep(600)"
    played = Played(tmp_path, deaf, cells=1, lanes=1)
    began = 0.0

    def stop() -> bool:
        nonlocal began
        began = began or (time.monotonic() if begun_by(played, "features 0")() else 0.0)
        return began > 0

    played.run(stop)
    assert running.GRACE_SECONDS <= time.monotonic() - began < running.GRACE_SECONDS + 3
    assert played.states() == ["done", "waiting", "waiting", "waiting"]
    process = dict(played.begun())["features 0"]
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.usefixtures("quick")
def test_nothing_more_is_begun_once_it_is_to_stop(tmp_path: Path) -> None:
    played = Played(tmp_path, "time.sleep(0.3)")
    played.run(begun_by(played, "pretrain 1"))
    assert {begun for begun, _ in played.begun()} == {"pretrain 0", "pretrain 1"}


def test_nothing_is_begun_where_it_is_to_stop_before(tmp_path: Path) -> None:
    played = Played(tmp_path, "")
    played.run(lambda: True)
    assert (played.states(), played.begun()) == (["waiting"] * 8, [])
