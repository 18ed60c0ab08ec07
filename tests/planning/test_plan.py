"""What is planned: each missing node once, after its parent at its parent's index, within the cluster's limits."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import tasks
from dae_ssl.compute.nodes import Node, NodeId, Task, needed
from dae_ssl.compute.processes import Conditions
from dae_ssl.config import Cell
from dae_ssl.files import StoreError
from dae_ssl.planning import cost, plan, trial
from dae_ssl.planning.plan import Array, Plan, Spot
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store, products_digest
from jobs import experiment
from jobs import plan as plan_command
from jobs.plan import print_costs

GPU4: dict[str, Any] = {
    "stages": {"pretrain": {"ranks_per_machine": 4, "gpus_per_machine": 4}, "features": {"gpus_per_machine": 1}}
}
PACKED: dict[str, Any] = {"stages": {"pretrain": {"packing": 4, "gpus_per_machine": 4}}}


def dae(alpha: float = 1.0, **more: Any) -> Cell:
    return config.cell({"method": {"name": "dae", "embedding": "l2", "alpha": alpha}} | more)


def planned(cells: Iterable[Cell], store: Path, profile: Any = None, **more: Any) -> Plan:
    more = {"queued": {}, "array_size": 1001} | more
    return plan.make(cells, Store(store), Profile.of("test", profile or GPU4), **more)


def commit(store: Path, cell: Cell, *stages: str) -> None:
    """Finish stages of a cell without computing anything: a product each, and a record."""
    for stage in stages:
        node, parent = Store(store).node(stage, config.key(cell, stage)), cell.parent(stage)
        node.create()
        node.product("product").write_text(node.key)
        above = Store(store).node(parent, config.key(cell, parent)).record() if parent else None
        node.commit({"parent": products_digest(above)} if above else {})


def every_node(found: Plan) -> list[NodeId]:
    return [node.id for array in found.arrays for task in array.tasks for node in task.nodes]


def parents_match(found: Plan, queued: dict[NodeId, Spot] | None = None) -> bool:
    """Tell whether every node comes after its parent: done, or in the array that its own follows, at the same index."""
    spots = dict(queued or {})
    for array in found.arrays:
        for task in array.tasks:
            for node in task.nodes:
                if node.parent is None or node.parent in found.done:
                    assert array.after is None, f"{node.id} waits for nothing that is missing"
                elif spots[node.parent] != Spot(array.after or "", task.index):
                    return False
                spots[node.id] = Spot(array.name, task.index)
    return True


def test_nodes_that_cells_share_are_planned_once(tmp_path: Path) -> None:
    cells = [dae(), dae(kmeans={"seed": 1}), dae(probe={"epochs": 7})]
    found = planned(cells, tmp_path)
    assert len(every_node(found)) == len(set(every_node(found))) == 1 + 1 + 2 + 2
    assert {node.cells for node in found.wanted.values() if node.stage == "pretrain"} == {3}


def test_one_array_for_each_stage_and_shape_of_resources_parents_first(tmp_path: Path) -> None:
    cells = [dae(seed=seed) for seed in range(3)] + [config.cell(method="random")]
    found = planned(cells, tmp_path)
    assert parents_match(found)
    shapes = [(array.stage, array.resources.ranks, len(array.tasks)) for array in found.arrays[:2]]
    assert shapes == [("pretrain", 4, 3), ("pretrain", 1, 1)], "an encoder that is not trained needs no four GPUs"
    assert len({array.name for array in found.arrays}) == len(found.arrays)


def test_children_of_one_parent_stand_in_arrays_that_each_follow_its(tmp_path: Path) -> None:
    epochs = (10, 25, 50)
    found = planned([dae(features={"epoch": epoch}, seed=seed) for epoch in epochs for seed in (0, 1)], tmp_path)
    following = [array for array in found.arrays if array.stage == "features"]
    assert [(array.after, array.indices()) for array in following] == [("pretrain-0", "0-1")] * 3
    assert parents_match(found)


def test_sparse_resubmission_keeps_matching_indices(tmp_path: Path) -> None:
    cells = [dae(seed=seed) for seed in range(6)]
    first = planned(cells, tmp_path)
    (pretrain,) = [array for array in first.arrays if array.stage == "pretrain"]
    on_their_way = {node.id: Spot("4711", task.index) for task in pretrain.tasks for node in task.nodes}
    commit(tmp_path, cells[2], "pretrain", "features", "probe", "kmeans")
    commit(tmp_path, cells[4], "pretrain")
    found = planned(cells, tmp_path, queued=on_their_way)
    assert parents_match(found, on_their_way)
    assert [(a.stage, a.after, a.indices()) for a in found.arrays if a.stage == "features"] == [
        ("features", None, "0"),
        ("features", "4711", "0-1,3,5"),
    ]


def test_nothing_is_planned_of_what_is_done_or_queued(tmp_path: Path) -> None:
    cell = dae()
    commit(tmp_path, cell, "pretrain", "features")
    queued = {(stage, config.key(cell, stage)): Spot("7", 0) for stage in ("probe", "kmeans")}
    found = planned([cell], tmp_path, queued=queued)
    assert found.arrays == ()
    assert found.done == {(stage, config.key(cell, stage)) for stage in ("pretrain", "features")}
    assert found.queued == queued.keys()


def test_only_nodes_of_the_asked_stages_are_planned_and_the_others_are_told(tmp_path: Path) -> None:
    cells = [dae(), dae(seed=1)]
    trains = planned(cells, tmp_path, stages={"pretrain"})
    assert {stage for stage, _ in every_node(trains)} == {"pretrain"}
    assert trains.left() == "only=pretrain leaves nodes that are missing: 6 of other stages"
    both = planned(cells, tmp_path, stages={"features", "pretrain"})
    assert [array.after for array in both.arrays] == [None, "pretrain-0"]
    assert parents_match(both)
    assert planned(cells, tmp_path).left() == ""


def test_node_whose_parent_is_neither_there_nor_on_its_way_is_left(tmp_path: Path) -> None:
    cells = [dae(), dae(seed=1), dae(seed=2)]
    commit(tmp_path, cells[0], "pretrain")
    queued = {("pretrain", config.key(cells[1], "pretrain")): Spot("7", 3)}
    found = planned(cells, tmp_path, stages={"features"}, queued=queued)
    assert every_node(found) == [("features", config.key(cell, "features")) for cell in cells[:2]]
    assert parents_match(found, queued)
    told = "only=features leaves nodes that are missing: 7 of other stages and 1 whose parents are not there"
    assert found.left() == told


@pytest.mark.parametrize(
    ("only", "stages"),
    [(None, set(config.STAGES)), ("probe", {"probe"}), (["pretrain", "features"], {"pretrain", "features"})],
)
def test_stages_are_named_one_or_several(only: object, stages: set[str]) -> None:
    assert plan.chosen(only) == stages


@pytest.mark.parametrize("only", ["probes", [], ["pretrain", "x"], 3, True])
def test_stage_that_is_none_is_one_line(only: object) -> None:
    with pytest.raises(config.ConfigError, match=r"only=.*: choose pretrain, features, probe, kmeans, or several"):
        plan.chosen(only)


def test_node_whose_product_was_deleted_is_planned_with_its_dependents_and_nothing_else(tmp_path: Path) -> None:
    cells = [dae(seed=seed) for seed in range(3)]
    for cell in cells:
        commit(tmp_path, cell, *config.STAGES)
    assert planned(cells, tmp_path).arrays == ()
    Store(tmp_path).node("features", config.key(cells[1], "features")).product("product").unlink()
    missing = {(stage, config.key(cells[1], stage)) for stage in ("features", "probe", "kmeans")}
    assert set(every_node(planned(cells, tmp_path))) == missing


def test_node_made_from_another_version_of_its_parent_is_planned_again(tmp_path: Path) -> None:
    cell = dae()
    commit(tmp_path, cell, *config.STAGES)
    node = Store(tmp_path).node("features", config.key(cell, "features"))
    node.product("product").write_text("other")
    node.commit(node.record() or {})
    assert {id[0] for id in every_node(planned([cell], tmp_path))} == {"probe", "kmeans"}


@pytest.mark.parametrize(("own", "clusters", "expected"), [(None, 4, 4), (3, 4, 3), (9, 4, 4)])
def test_arrays_are_split_at_the_clusters_limit_and_the_profiles_own(
    own: int | None, clusters: int, expected: int, tmp_path: Path
) -> None:
    found = planned([dae(seed=s) for s in range(10)], tmp_path, GPU4 | {"array_size": own}, array_size=clusters)
    sizes = [len(array.tasks) for array in found.arrays if array.stage == "pretrain"]
    assert sizes == [expected] * (10 // expected) + [10 % expected]
    assert max(task.index for array in found.arrays for task in array.tasks) < clusters
    assert parents_match(found)


def test_packed_cells_share_a_task_and_so_do_their_children(tmp_path: Path) -> None:
    found = planned([dae(seed=seed) for seed in range(6)], tmp_path, PACKED)
    by_stage = {array.stage: [len(task.nodes) for task in array.tasks] for array in found.arrays}
    assert by_stage == {stage: [4, 2] for stage in config.STAGES}
    assert parents_match(found)


@pytest.mark.parametrize(
    ("indices", "written"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7"), ([5, 1], "1,5")]
)
def test_indices_are_written_as_sbatch_takes_them(indices: list[int], written: str) -> None:
    resources = Profile.of("test", {}).resources("probe")
    assert Array("a", "probe", resources, tuple(Task(i, ()) for i in indices)).indices() == written


def test_task_is_read_back_from_the_file_of_its_array(tmp_path: Path) -> None:
    cell = dae()
    conditions = Conditions(store=tmp_path, resources=Profile.of("t", GPU4).resources("pretrain"))
    first, *others = needed([cell]).values()
    written = (Task(0, (first,)), Task(7, tuple(others)))
    (tmp_path / "a.jsonl").write_text("\n".join(tasks.lines(conditions, written)))
    for task in written:
        read, how = tasks.read(tmp_path / "a.jsonl", task.index)
        assert how == conditions
        assert [(node.id, node.parent, node.cell) for node in read.nodes] == [
            (node.id, node.parent, node.cell) for node in task.nodes
        ]
    with pytest.raises(StoreError, match="has no task 3"):
        tasks.read(tmp_path / "a.jsonl", 3)


def test_cost_follows_what_finished_nodes_took(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), dae()
    facts = {"seconds": 3600.0, "ranks": 4, "device_type": "cuda", "settings": config.stage_settings(cell, "pretrain")}
    facts["settings"]["data"]["images"] = 50_000
    node = store.node("pretrain", config.key(cell, "pretrain"))
    node.create()
    node.commit(facts)
    wanted = [dae(seed=1, optimisation={"epochs": 150}, data={"pretrain_images": 50_000})]

    def total(given: dict[str, Any], cells: Iterable[Cell] = wanted) -> cost.Cost:
        arrays = [array for array in planned(cells, tmp_path, given).arrays if array.stage == "pretrain"]
        return cost.total(arrays, Profile.of("test", given), store, cost.measured(store))

    assert total(GPU4) == cost.Cost(pytest.approx(2.0), 0.0, 0)
    assert total(PACKED).unknown == 1, "one rank was never timed"
    assert total(GPU4 | {"device": "cpu"}).unknown == 1
    assert total(GPU4, [dae(data={"pretrain": "mine"})]).unknown == 1, "its images are not prepared"
    assert total(GPU4, [replace(cell, precision="bf16") for cell in wanted]).unknown == 1, "another speed"


def test_cost_of_evaluation_grows_with_its_images_epochs_and_restarts(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "store")
    store = Store(tmp_path / "store")
    tiny = {"evaluate": "tiny", "validation_images": 10}  # of 60 training images

    def of(**more: Any) -> list[Node]:
        own = dae(data=tiny | more.pop("data", {}), **more)
        return [node for id, node in needed([own]).items() if id[0] != "pretrain"]

    done = dae(data=tiny, probe={"epochs": 10}, kmeans={"restarts": 2})
    for stage, seconds in {"features": 60.0, "probe": 500.0, "kmeans": 20.0}.items():
        node = store.node(stage, config.key(done, stage))
        node.create()
        node.commit({"seconds": seconds, "device_type": "cpu", "settings": config.stage_settings(done, stage)})
    durations = cost.measured(store)["cpu"]
    few = of(data={"evaluate_images": 30}, probe={"epochs": 40}, kmeans={"restarts": 10})
    assert [durations.seconds(node, 1, store) for node in few] == [30.0, 20 * 40 * 1.0, 100.0]
    assert [durations.seconds(node, 1, Store(tmp_path)) for node in few[:1]] == [30.0]
    assert durations.seconds(of(data={"evaluate": "mine"})[0], 1, store) is None, "its images are not prepared"


# ---------------------------------------------------------------------------------- which way is cheaper


def timed(store: Store, hours: float, *, ranks: int, precision: str = "fp32") -> None:
    """Forge a cell of 300 epochs that took so many hours on so many ranks, each with a GPU."""
    cell = dae(data={"pretrain_images": 50_000}, seed=1000 + ranks, precision=precision)
    node = store.node("pretrain", config.key(cell, "pretrain"))
    node.create()
    settings = config.stage_settings(cell, "pretrain")
    node.commit({"seconds": 3600 * hours, "ranks": ranks, "device_type": "cuda", "settings": settings})


def costs(store: Store, given: dict[str, Any], epochs: Iterable[int], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what is printed of the costs of cells with so many epochs."""
    profile = Profile.of("test", given | {"array_parallelism": 2})
    cells = [dae(data={"pretrain_images": 50_000}, optimisation={"epochs": count}, seed=seed)
             for seed, count in enumerate(epochs)]  # fmt: skip
    print_costs(planned(cells, store.root, given), profile, store)
    return capsys.readouterr().out.splitlines()


def column(lines: Iterable[str], way: str) -> list[str]:
    """Return hours in all, of the longest cell, and until all are done, of a way."""
    (line,) = (line for line in lines if line.startswith(f"  {way} "))
    return line.split()[-3:]


@pytest.mark.parametrize(("given", "own"), [(GPU4, "4 ranks a cell"), (PACKED, "4 cells side by side")])
@pytest.mark.parametrize(
    ("epochs", "faster", "packed", "shared", "verdict", "reason"),
    [
        ([300] * 8, 1.2, ["8.00", "1.00", "1.00"], ["26.67", "0.83", "3.33"],
         "4 cells side by side, by 18.67 GPU-hours or 70 %",
         "4 ranks train a cell 1.20 times as fast as one, 30 % of 4 at full speed; side by side 100 % of them"),
        ([300], 1.2, ["4.00", "1.00", "1.00"], ["3.33", "0.83", "0.83"],
         "4 ranks a cell, by 0.67 GPU-hours or 17 %", "side by side 25 % of them"),
        ([300, 30, 30, 30], 2.0, ["4.00", "1.00", "1.00"], ["2.60", "0.50", "0.50"],
         "4 ranks a cell, by 1.40 GPU-hours or 35 %", "50 % of 4 at full speed; side by side 32 % of them"),
        ([300] * 8, 5.0, ["8.00", "1.00", "1.00"], ["6.40", "0.20", "0.80"],
         "4 ranks a cell, by 1.60 GPU-hours or 20 %", "5.00 times as fast as one, 125 % of 4 at full speed"),
    ],
    ids=["many cells", "one cell", "unlike lengths", "ranks more than pay"],
)  # fmt: skip
def test_plan_names_the_cheaper_of_two_ways_that_were_timed_and_why(
    given: dict[str, Any], own: str, epochs: list[int], faster: float, packed: list[str], shared: list[str],
    verdict: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = Store(tmp_path)
    timed(store, 1.0, ranks=1)
    timed(store, 1.0 / faster, ranks=4)
    lines = costs(store, given, epochs, capsys)
    assert column(lines, "4 cells side by side") == packed
    assert column(lines, "4 ranks a cell") == shared
    assert f"  cheaper: {verdict}. " in lines[-1]
    assert reason in lines[-1]
    assert [line.split("  ")[1] for line in lines if "(the profile's)" in line] == [f"{own} (the profile's)"]


@pytest.mark.parametrize(
    ("ranks", "unknown", "how"),
    [
        (1, "4 ranks a cell", "trial=true under torchrun with 4 processes"),
        (4, "4 cells side by side", "trial=true in one process"),
    ],
)
def test_of_a_way_that_was_never_timed_plan_gives_no_number_but_what_would_decide(
    ranks: int, unknown: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    timed(store, 1.0, ranks=ranks)
    lines = costs(store, GPU4, [300] * 5, capsys)
    assert column(lines, unknown) == ["unknown"] * 3
    assert f'cheaper: unknown, since "{unknown}" was never timed on cuda: {how} does that' in lines[-1]
    assert "unless 4 ranks train a cell over 2.50 times as fast as one" in lines[-1], "5 of 8 places are taken"


def test_plan_asks_for_both_trials_where_nothing_was_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    timed(store, 1.0, ranks=1, precision="bf16")
    timed(store, 1.0, ranks=4, precision="bf16")
    lines = costs(store, PACKED, [300], capsys)
    assert lines[-1] == ("  cheaper: unknown until timed: trial=true in one process and trial=true under torchrun with "
                         "4 processes, where the cells are to run")  # fmt: skip


def test_hours_until_all_are_done_are_those_of_tasks_taken_in_order_by_the_next_free_place() -> None:
    seconds, parallel = [3600.0 * hours for hours in (5, 1, 1, 1, 4, 2)], 3
    clock, running, waiting = 0, list[float](), list(seconds)
    while running or waiting:  # a second after the other
        running = [left - 1800 for left in running if left > 1800]
        while waiting and len(running) < parallel:
            running.append(waiting.pop(0))
        clock += 1800 if running else 0
    way = cost.Way(resources=Profile.of("test", GPU4).resources("pretrain"), seconds=tuple(seconds))
    assert way.until_done(parallel) == clock / 3600 == 5


def test_the_two_profiles_of_four_gpus_differ_only_in_how_pretraining_uses_them() -> None:
    shared, packed = experiment.profile("gpu4"), experiment.profile("gpu4-packed")
    own = replace(packed.stages.pretrain, packing=1, ranks_per_machine=4)
    assert (packed.stages.pretrain.packing, packed.stages.pretrain.ranks, packed.stages.pretrain.gpus) == (4, 1, 4)
    assert replace(packed, name="gpu4", stages=replace(packed.stages, pretrain=own)) == shared


def test_trial_for_packed_cells_times_one_rank_in_each_precision_and_the_plan_goes_by_it(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(images, tmp_path / "store")
    path = tmp_path / "packed.yaml"
    path.write_text((experiment.PROFILES / "gpu4-packed.yaml").read_text() + "device: cpu\n")
    changes = ["data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "optimisation.batch_size=32"]
    plan_command.main(
        ["experiment=precision", f"profile={path}", f"store={tmp_path / 'store'}", "trial=true", *changes]
    )
    found = {(one["method"], one["precision"], one["ranks"]) for one in trial.measured(Store(tmp_path / "store"))}
    assert found == {(method, precision, 1) for method in ("dae", "simclr") for precision in ("fp32", "tf32", "bf16")}
    lines = capsys.readouterr().out.splitlines()
    assert "unknown" not in column(lines, "4 cells side by side")
    assert column(lines, "4 ranks a cell") == ["unknown"] * 3


SCALE = """
import sys, time
from pathlib import Path
import dae_ssl.training.methods
from dae_ssl import config
from dae_ssl.cluster import launch
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
cells = [config.cell({"method": {"name": "dae", "embedding": "l2", "alpha": a / 100}, "seed": s})
         for a in range(2500) for s in range(4)]
store, profile = Store(Path(sys.argv[1])), Profile.of("gpu4", {"stages": {"pretrain": {"gpus_per_machine": 1}}})
began = time.process_time()
planned = plan.make(cells, store, profile, queued={}, array_size=1001)
sent = launch.intend(planned, store, profile, experiment="scale", mlflow_experiment="scale")
scripts = [launch.script(sent, array, array.after and "1", store, profile).text() for array in planned.arrays]
# Of this program alone: getrusage would count the process that it was forked from.
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 2**20
print(len(planned.wanted), len(planned.arrays), len(scripts), time.process_time() - began, peak)
"""


@pytest.mark.slow
def test_ten_thousand_cells_are_planned_in_seconds_within_a_gigabyte(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCALE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    nodes, arrays, scripts, seconds, gigabytes = map(float, done.stdout.split())
    assert (nodes, arrays, scripts) == (40_000, 40, 40)
    assert seconds < 10
    assert gigabytes < 1
    lines = [line for path in tmp_path.glob("launches/*/*.jsonl") for line in path.read_text().splitlines()[1:]]
    assert sum(len(json.loads(line)["nodes"]) for line in lines) == nodes
