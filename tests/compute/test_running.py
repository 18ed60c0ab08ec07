"""A plan on lanes that play: what becomes of a node whose process dies, stopping in time; and cells, without lanes."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from dae_ssl import config
from dae_ssl.compute import cells, lanes, log, running, shares
from dae_ssl.compute import lane as inside
from dae_ssl.compute.interrupt import Budget
from dae_ssl.compute.nodes import Node, needed
from dae_ssl.compute.running import Outcome, Round
from dae_ssl.compute.show import Lines
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError
from dae_ssl.store import RECORD, Store
from tests.compute.played import Played, Shown, cell, name, nodes
from tests.patience import PATIENCE


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
    assert any("features: its process was killed by SIGKILL: out of memory?; it continues" in line
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
    assert last.fields["reason"] == f"its process was killed by SIGABRT; given up after {max_failures + 1} attempts"
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
if stage == 'pretrain' and seed: time.sleep(3600)
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
    assert time.monotonic() - began < PATIENCE
    assert played.states() == [*["done"] * 4, *["waiting"] * 4]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("seconds", "state"), [(1.0, "done"), (3600.0, "waiting")])
def test_stage_that_saves_nothing_may_finish_within_the_grace(seconds: float, state: str, tmp_path: Path) -> None:
    played = Played(tmp_path, SAVES + f"if stage == 'kmeans': time.sleep({seconds})", cells=1, lanes=1)
    played.run(begun_by(played, "kmeans 0"))
    assert played.states() == ["done", "done", "done", state]
    assert (tmp_path / "saved0").exists() == (state == "waiting"), "asked to end before it is killed"


@pytest.mark.usefixtures("quick")
def test_process_that_does_not_listen_is_killed_when_the_grace_is_over(tmp_path: Path) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif stage == 'features': time.sleep(3600)"
    played = Played(tmp_path, deaf, cells=1, lanes=1)
    began = 0.0

    def stop() -> bool:
        nonlocal began
        began = began or (time.monotonic() if begun_by(played, "features 0")() else 0.0)
        return began > 0

    played.run(stop)
    assert running.GRACE_SECONDS <= time.monotonic() - began < PATIENCE
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


# ---------------------------------------------------------------------------------- cells

COMMITS = """
import json, pathlib, sys
folder, log = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]) / "begun"
for line in sys.stdin:
    given = json.loads(line)
    name = f"{given['stage']} {given['settings']['seed']}"
    with log.open("a") as file: file.write(f"{name}\\n")
    code = 1 if name in (folder / "fails").read_text().splitlines() else 0
    record = pathlib.Path(json.loads((folder / "records").read_text())[name])
    if not code and name not in (folder / "lost").read_text().splitlines():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"products": {}}))
    print(json.dumps(["ended", code]), flush=True)
"""


class Library:
    """What uses `run` on cells of tiny images, with lanes that commit nodes in which nothing is."""

    def __init__(self, store: Path, tmp_path: Path) -> None:
        self.store, self.folder, self.shown = Store(store), tmp_path, Shown()
        self.kept: list[list[int]] = []
        (tmp_path / "commits.py").write_text(COMMITS)
        self.lose()
        self.fail()

    def cells(self, *seeds: int) -> list[Cell]:
        data = {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6}
        return [config.cell({}, method={"name": "ae"}, data=data, seed=seed, **self.small()) for seed in seeds]

    @staticmethod
    def small() -> dict[str, object]:
        return {"optimisation": {"batch_size": 8}, "kmeans": {"clusters": 3}}

    def lose(self, *nodes: str) -> None:
        """Have some nodes' records not written."""
        (self.folder / "lost").write_text("\n".join(nodes))

    def fail(self, *nodes: str) -> None:
        (self.folder / "fails").write_text("\n".join(nodes))

    def keep(self, cells: Collection[Cell]) -> None:
        self.kept.append([cell.seed for cell in cells])

    def run(self, cells: Sequence[Cell], **more: Any) -> Outcome:
        records = {name(node): str(self.store.node(*node.id).product(RECORD))
                   for node in needed([*cells, *self.cells(0, 1, 2, 3)]).values()}  # fmt: skip
        (self.folder / "records").write_text(json.dumps(records))
        start = [sys.executable, str(self.folder / "commits.py"), str(self.folder)]
        given = {"keep": self.keep, "show": self.shown, "start": start, "device": "cpu"} | more
        return running.run(cells, self.store, **given)

    def begun(self) -> list[str]:
        return (self.folder / "begun").read_text().splitlines() if (self.folder / "begun").exists() else []


@pytest.fixture
def library(images: Path, tmp_path: Path) -> Library:
    shutil.copytree(images, tmp_path / "store")
    return Library(tmp_path / "store", tmp_path)


def test_cells_are_computed_in_their_order_and_described_and_kept_as_they_are_finished(library: Library) -> None:
    cells = library.cells(1, 0)
    assert library.run(cells) == Outcome(computed=True)
    assert library.begun() == [f"{stage} {seed}" for seed in (1, 0) for stage in config.STAGES]
    assert library.kept == [[], [1, 0], [1], [0], [], [1, 0]]
    assert {folder.key for folder in library.store.cells()} == set(map(config.cell_key, cells))
    assert library.run(cells) == Outcome(computed=False)
    assert len(library.begun()) == 8, "nothing is computed twice"


def test_node_that_fails_leaves_the_others_alone_and_nothing_more_is_asked_for(library: Library) -> None:
    library.fail("features 0")
    outcome = library.run(library.cells(0, 1), again=lambda: pytest.fail("what failed is to be seen first"))
    assert (outcome, outcome.code) == (Outcome(failed=3, left=3), 1)
    assert [node for node in library.begun() if node.endswith("1")] == [f"{stage} 1" for stage in config.STAGES]
    assert library.kept[-1] == [0], "as far as it was computed"


def test_results_may_ask_for_more_cells(library: Library) -> None:
    wanted = [library.cells(0, 1), library.cells(0, 1, 2)]
    assert library.run(library.cells(0), again=lambda: wanted.pop(0) if len(wanted) > 1 else wanted[0]) == Outcome()
    assert [name for name in library.begun() if "kmeans" in name] == ["kmeans 0", "kmeans 1", "kmeans 2"]


def test_budget_that_is_over_is_no_failure_and_says_what_is_left(library: Library) -> None:
    begun = library.begun
    budget = Budget(1.0, clock=lambda: 100.0 if len(begun()) > 1 else 0.0)
    outcome = library.run(library.cells(0, 1), budget=budget)
    assert (outcome, outcome.code) == (Outcome(left=6, over=True), 0)
    assert library.begun() == ["pretrain 0", "features 0"]
    assert any("stopping: running nodes save their state" in line for line in library.shown.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_as_the_budget_does_and_is_told_by_the_code(number: signal.Signals, library: Library) -> None:
    asked = list[signal.Signals]()

    def stops(cells: Collection[Cell]) -> None:
        if len(cells) == 1 and not asked:
            asked.append(number)
            os.kill(os.getpid(), number)

    outcome = library.run(library.cells(0, 1), keep=stops)
    assert (outcome.stopped, outcome.code, outcome.over) == (number, 128 + number, False)
    assert outcome.left >= 3
    assert "kmeans 1" not in library.begun()


def test_only_some_stages_are_computed_and_what_else_is_missing_is_told(library: Library) -> None:
    assert library.run(library.cells(0), stages=["pretrain"]) == Outcome()
    assert library.begun() == ["pretrain 0"]
    told = "leaves out missing nodes: 3 of other stages"
    assert [told in line for line in library.shown.lines if "leaves" in line] == [True, True], "before and after"
    assert library.run(library.cells(0), stages=["probe"]) == Outcome(computed=False)
    assert "2 of other stages and 1 whose parents are missing" in library.shown.lines[-1]


def test_nodes_that_were_computed_and_are_not_there_are_one_line_and_no_endless_loop(library: Library) -> None:
    library.lose(*(f"{stage} 0" for stage in config.STAGES))
    with pytest.raises(StoreError, match="4 nodes were computed but are missing from"):
        library.run(library.cells(0))
    assert len(library.begun()) == 4


def test_file_that_cannot_be_written_for_once_ends_nothing_and_takes_the_cell_later(library: Library) -> None:
    asked = list[list[int]]()

    def keep(cells: Collection[Cell]) -> None:
        asked.append([cell.seed for cell in cells])
        if len(asked) == 3:
            raise StoreError("no space left")

    assert library.run(library.cells(0, 1), keep=keep).code == 0
    assert asked == [[], [0, 1], [0], [0], [1], [], [0, 1]], "in vain; at once again; the second; the rest; all"
    assert "! finished cells are not kept yet: no space left" in library.shown.lines


def refused(library: Library, told: str, cells: Sequence[Cell], **more: Any) -> None:
    before = sorted(library.store.root.rglob("*"))
    with pytest.raises((ConfigError, StoreError), match=told) as error:
        library.run(cells, **more)
    assert "\n" not in str(error.value)
    assert sorted(library.store.root.rglob("*")) == before
    assert library.kept == []


def test_what_cannot_be_is_one_line_and_nothing_is_written(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = config.cell({}, method={"name": "ae"}, data={"evaluate": "cifar10"})
    refused(library, "data set 'cifar100' is not prepared in", [elsewhere])
    for other in ("4d815d23", {"method": "ae"}):
        with pytest.raises(ConfigError, match=r"is not a cell: make one with dae_ssl\.cell$"):
            running.run([other], library.store)
        with pytest.raises(ConfigError, match=r"is not a cell: make one with dae_ssl\.cell$"):
            cells.scores(other, library.store)
    refused(library, "--parallel=0: choose", library.cells(0), parallel=0)
    monkeypatch.setattr(shares, "available_gb", lambda: 2.0)
    refused(
        library,
        "--parallel=2: choose at most 1: each process may take 1.8 GB, and 2.0 GB",
        library.cells(0),
        parallel=2,
    )
    assert library.run(library.cells(0), parallel=1).code == 0


@pytest.mark.parametrize(
    ("module", "imports"), [("dae_ssl.training.methods.ae", []), ("my_methods", ["--import=my_methods"])]
)
def test_lane_imports_the_module_of_a_method_that_is_not_the_suites(
    module: str, imports: list[str], library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = list[Sequence[str]]()
    made = lanes.Lane.__init__
    monkeypatch.setattr(lanes.Lane, "__init__", lambda lane, number, kind, command: (
        commands.append(command), made(lane, number, kind, command))[1])  # fmt: skip
    (cell,) = library.cells(0)
    monkeypatch.setattr(type(cell.method), "__module__", module)
    library.run([cell])
    assert [word for word in commands[0] if word.startswith("--import")] == imports


def test_method_of_a_notebook_is_refused_since_no_lane_could_import_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = library.cells(0)
    monkeypatch.setattr(type(cell.method), "__module__", "__main__")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    refused(library, "ae is defined in a notebook or on a prompt", [cell])


def test_script_that_computes_while_a_lane_imports_it_is_refused(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, inside.SCRIPT, sys)
    refused(library, "the script computes cells while it is imported by", library.cells(0))


def test_person_who_watches_is_shown_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.tell("well")
    lines.warn("badly")
    lines.progress(0, "steps", 1, 2)
    lines.still(0)
    assert capsys.readouterr() == ("well\n", "badly\n")
    node = nodes(1)[0]
    assert lines.called(node) == f"ae, seed 0, cell {config.cell_key(node.cell)}"
