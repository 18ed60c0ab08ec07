"""Lanes without torch: which there are, which node is next, what becomes of one whose process dies, stopping in time.

The lanes' processes are real, but what they run is a few lines that play the part of a lane.
"""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import log, running
from dae_ssl.compute.lanes import Kind, Lane, deal
from dae_ssl.compute.nodes import Node, NodeId, needed
from dae_ssl.compute.processes import DONE, FAILED, TRY_AGAIN
from dae_ssl.compute.resources import Resources
from dae_ssl.compute.running import Deadline, Order, Run
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import terminal
from jobs.terminal import Board

ALL = frozenset(config.STAGES)
ROOT = Path(__file__).parents[2]


def cell(seed: int) -> Cell:
    return config.cell({}, method={"name": "ae"}, seed=seed)


def nodes(cells: int) -> list[Node]:
    """Return the nodes of some cells, cell after cell."""
    return [node for seed in range(cells) for node in needed([cell(seed)]).values()]


def name(node: Node) -> str:
    """Return what tests call a node: its stage and the seed of its cell."""
    return f"{node.stage} {node.cell.seed}"


# ---------------------------------------------------------------------------------- which lanes there are


def profile(**given: object) -> tuple[Resources, str]:
    """Return what a local profile has pretraining ask for, and on which device."""
    made = Profile.of("mine", {"launcher": "local", **given})
    return made.stages.pretrain, made.device


def test_machine_without_a_gpu_has_one_lane_that_takes_everything_as_it_always_was() -> None:
    (only,) = deal(None, *profile(), [], 8)
    assert (only.stages, only.variables) == (ALL, {})


def test_lanes_without_a_gpu_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for lanes, processors, threads in ((2, 8, "4"), (3, 8, "2"), (4, 2, "1")):
        dealt = deal(lanes, *profile(), [], processors)
        assert [(one.stages, one.variables) for one in dealt] == [(ALL, {"OMP_NUM_THREADS": threads})] * lanes
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert deal(2, *profile(), [], 8)[0].variables == {"OMP_NUM_THREADS": "3"}


def test_gpu_has_two_lanes_and_kmeans_one_of_its_own_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first, second, beside = deal(None, *profile(), ["0"], 12)
    assert first == second == Kind(stages=frozenset(("pretrain", "features", "probe")), device="auto",
                                   variables={"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0"})  # fmt: skip
    assert beside == Kind(stages=frozenset({"kmeans"}), device="cpu",
                          variables={"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip


def test_lanes_are_dealt_round_over_the_gpus() -> None:
    def seen(lanes: int | None, **given: object) -> list[str]:
        return [one.variables["CUDA_VISIBLE_DEVICES"] for one in deal(lanes, *profile(**given), ["4", "7"], 8)]

    assert seen(None) == ["4", "7", "4", "7", ""]
    assert seen(3) == ["4", "7", "4", ""]
    packed = {"stages": {"pretrain": {"packing": 2, "gpus_per_machine": 2}}}
    assert seen(None, **packed) == ["4", "7", ""]


def test_lanes_beyond_what_a_machine_can_be_meant_to_have_are_one_line() -> None:
    assert len(deal(8, *profile(), [], 2)) == 8
    assert len(deal(12, *profile(), ["0", "1", "2"], 2)) == 13
    for lanes, visible in ((9, []), (10**30, []), (13, ["0", "1", "2"])):
        with pytest.raises(
            ConfigError, match=r"--parallel=\d+: choose \d+ at most: 4 for each of 2 processors, or of \d GPUs"
        ):
            deal(lanes, *profile(), visible, 2)


def test_cell_that_takes_all_ranks_has_all_gpus_and_no_lane_beside_it() -> None:
    ranks = profile(stages={"pretrain": {"ranks_per_machine": 4}})
    first, beside = deal(None, *ranks, ["0", "1", "2", "3"], 8)
    assert first.variables == {}
    assert beside.stages == {"kmeans"}
    with pytest.raises(ConfigError, match="--parallel=2: choose 1 with 4 ranks a cell"):
        deal(2, *ranks, [], 8)


# ---------------------------------------------------------------------------------- which node is next


def test_lane_finishes_the_cell_that_it_has_and_others_begin_the_next() -> None:
    order, own = Order(nodes(3), 3), (set[NodeId](), set[NodeId]())

    def taken(lane: int) -> Node:
        node = order.next(ALL, own[lane])
        assert node is not None
        own[lane].add(node.id)
        return node

    first, second = taken(0), taken(1)
    assert (name(first), name(second)) == ("pretrain 0", "pretrain 1")
    assert order.next(ALL - {"pretrain"}, own[0]) is None, "its parent is under way"
    order.ended(first, TRY_AGAIN)
    order.ended(second, DONE)
    second = taken(1)
    assert name(second) == "features 1", "though cell 0 has to begin again, and cell 2 could begin"
    order.ended(second, DONE)
    assert [name(taken(1)), name(taken(1))] == ["probe 1", "kmeans 1"]
    assert [name(taken(0)), name(taken(1))] == ["pretrain 0", "pretrain 2"]
    assert order.next(ALL, own[1]) is None
    order.ended(first, DONE)
    assert name(taken(0)) == "features 0"


def test_what_fails_takes_its_own_dependents_with_it_and_no_others() -> None:
    order = Order(nodes(2), 3)
    first = order.next(ALL, set())
    assert first is not None
    order.ended(first, FAILED)
    assert [order.states[node.id] for node in order.nodes] == ["failed", *["left out"] * 3, *["waiting"] * 4]


def test_parent_that_is_not_in_the_order_is_there() -> None:
    order = Order([node for node in nodes(1) if node.stage in ("probe", "kmeans")], 3)
    assert [name(node) for node in iter(lambda: order.next(ALL, set()), None)] == ["probe 0", "kmeans 0"]


# ---------------------------------------------------------------------------------- processes

PLAYS = """
import json, os, pathlib, signal, sys, time
def say(*answer): print(json.dumps(answer), flush=True)
here = pathlib.Path(sys.argv[1])
for line in sys.stdin:
    given = json.loads(line)
    stage, seed = given["stage"], given["settings"]["seed"]
    with (here / "begun").open("a") as file: file.write(f"{stage} {seed} {os.getpid()}\\n")
    tries = sum(l.startswith(f"{stage} {seed} ") for l in (here / "begun").open())
    code = 0
"""


class Shown:
    """Takes what would be shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(f"! {line}")

    def progress(self, lane: int, what: str, done: int, total: int) -> None:
        self.lines.append(f"lane {lane}, {what} {done}/{total}")

    def still(self, lane: int) -> None:
        pass


class Played:
    """Runs an order on lanes that play: `program` is what each does with a node, of a `stage` and a `seed`."""

    def __init__(self, tmp_path: Path, program: str, cells: int = 2, lanes: int = 2, max_failures: int = 3) -> None:
        body = "".join(f"    {line}\n" for line in (*program.splitlines(), "say('ended', code)"))
        (tmp_path / "play.py").write_text(PLAYS + body)
        command = [sys.executable, str(tmp_path / "play.py"), str(tmp_path)]
        self.lanes = [Lane(number, Kind(), command) for number in range(lanes)]
        self.order, self.shown, self.folder = Order(nodes(cells), max_failures), Shown(), tmp_path
        self.store = Store(tmp_path / "store")
        self.done: list[str] = []

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        run = Run(self.order, self.lanes, self.shown, self.store, lambda node: f"cell {node.cell.seed}")
        try:
            run.to_the_end(stop, lambda done: self.done.extend(map(name, done)))
        finally:
            for lane in self.lanes:
                lane.kill()

    def begun(self) -> list[tuple[str, int]]:
        """Return what was begun, and by which process, in order."""
        lines = (self.folder / "begun").read_text().splitlines() if (self.folder / "begun").exists() else []
        return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in lines]

    def states(self) -> list[str]:
        return [self.order.states[node.id] for node in self.order.nodes]


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
    run = Run(played.order, played.lanes, played.shown, played.store, name)

    def beside(done: Sequence[Node]) -> None:
        begun_when_told.update({name(node): len(played.order.begun) for node in done})

    run.to_the_end(lambda: False, beside)
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


def test_lane_that_cannot_be_started_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, "")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(StoreError, match="lane 1 cannot be started: Too many open files: choose fewer with lanes=N"):
        played.run()


def test_lanes_are_heard_also_where_more_files_are_open_than_select_takes(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip(f"at most {hard} files may be open here")
    opened = list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        opened += [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
        played = Played(tmp_path, "", cells=1, lanes=1)
        played.run()
    finally:
        for file in opened:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert played.states() == ["done"] * 4


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


def test_deadline_is_told_by_the_clock() -> None:
    now = 10.0
    over = Deadline(70.0, clock=lambda: now)
    assert not over()
    now = 70.0
    assert over()
    assert not Deadline(None, clock=lambda: now)()


BUSY = """
import pathlib, subprocess, sys, time
if sys.argv[1] == "lane":
    from dae_ssl.cluster import tasks
    from dae_ssl.compute import lane
    from dae_ssl.compute.resources import Resources
    processes.run = lambda *_: (sys.stderr.write("busy\\n"), sys.stderr.flush(), time.sleep(60))
    sys.exit(lane.serve(tasks.Work(store=pathlib.Path(), resources=Resources(), items=()), lambda _cell: []))
lane = subprocess.Popen([sys.executable, __file__, "lane"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
lane.stdin.write(b'{"stage": "kmeans", "key": "k", "settings": {}, "cell": "c"}\\n')
lane.stdin.flush()
lane.stderr.readline()
print(lane.pid, flush=True)
time.sleep(60)
"""


def test_lane_dies_with_the_process_that_started_it_also_while_it_is_busy(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    command, environment = [sys.executable, str(tmp_path / "busy.py"), "parent"], {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    lane = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{lane}").exists() and Path(f"/proc/{lane}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "it computes on"
        time.sleep(0.05)


# ---------------------------------------------------------------------------------- what is shown


def test_progress_in_a_file_is_a_line_a_minute_for_each_lane(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    board = Board()
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
    board = Board()
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
