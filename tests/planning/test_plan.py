"""What is planned: each missing node once, after its parent at its parent's index, within the cluster's limits."""

from pathlib import Path

import pytest

from dae_ssl import config
from dae_ssl.compute.nodes import NodeId, Task
from dae_ssl.planning import plan
from dae_ssl.planning.plan import Array, Plan, Spot
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from tests.planning.planned import GPU4, PACKED, commit, dae, planned


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
    assert trains.left() == "--only pretrain leaves out missing nodes: 6 of other stages"
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
    told = "--only features leaves out missing nodes: 7 of other stages and 1 whose parents are missing"
    assert found.left() == told


@pytest.mark.parametrize(
    ("only", "stages"),
    [(None, set(config.STAGES)), ("probe", {"probe"}), (["pretrain", "features"], {"pretrain", "features"})],
)
def test_stages_are_named_one_or_several(only: object, stages: set[str]) -> None:
    assert plan.chosen(only) == stages


@pytest.mark.parametrize("only", ["probes", [], ["pretrain", "x"], 3, True])
def test_stage_that_is_none_is_one_line(only: object) -> None:
    with pytest.raises(
        config.ConfigError, match=r"--only=.*: choose one or several of pretrain, features, probe, kmeans"
    ):
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
