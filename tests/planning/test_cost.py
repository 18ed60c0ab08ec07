"""What missing nodes will cost, told from what was measured alone, and which way to use several GPUs is cheaper."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dae_ssl import config
from dae_ssl.compute.nodes import Node, needed
from dae_ssl.config import Cell
from dae_ssl.planning import cost
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs.plan import print_costs
from tests.planning.planned import GPU4, PACKED, column, dae, planned


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
    prepared, nothing = cost.images_in(store), cost.images_in(Store(tmp_path))
    assert [durations.seconds(node, 1, prepared) for node in few] == [30.0, 20 * 40 * 1.0, 100.0]
    assert [durations.seconds(node, 1, nothing) for node in few[:1]] == [30.0]
    assert durations.seconds(of(data={"evaluate": "mine"})[0], 1, prepared) is None, "its images are not prepared"


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


@pytest.mark.parametrize(("given", "own"), [(GPU4, "4 ranks a cell"), (PACKED, "4 cells side by side")])
@pytest.mark.parametrize(
    ("epochs", "faster", "packed", "shared", "verdict", "reason"),
    [
        ([300] * 8, 1.2, ["8.00", "1.00", "1.00"], ["26.67", "0.83", "3.33"],
         "4 cells side by side, by 18.67 GPU-hours or 70 %",
         "4 ranks train a cell 1.20 times as fast as one, 30 % of 4 at full speed; side by side, 100 % of the GPU"),
        ([300], 1.2, ["4.00", "1.00", "1.00"], ["3.33", "0.83", "0.83"],
         "4 ranks a cell, by 0.67 GPU-hours or 17 %", "side by side, 25 % of the GPU time"),
        ([300, 30, 30, 30], 2.0, ["4.00", "1.00", "1.00"], ["2.60", "0.50", "0.50"],
         "4 ranks a cell, by 1.40 GPU-hours or 35 %", "50 % of 4 at full speed; side by side, 32 % of the GPU"),
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
        (1, "4 ranks a cell", "--trial under torchrun with 4 processes"),
        (4, "4 cells side by side", "--trial in one process"),
    ],
)
def test_of_a_way_that_was_never_timed_plan_gives_no_number_but_what_would_decide(
    ranks: int, unknown: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    timed(store, 1.0, ranks=ranks)
    lines = costs(store, GPU4, [300] * 5, capsys)
    assert column(lines, unknown) == ["unknown"] * 3
    assert f'cheaper: unknown, since "{unknown}" was never timed on cuda: run {how} on a machine' in lines[-1]
    assert "unless 4 ranks train a cell over 2.50 times as fast as one" in lines[-1], "5 of 8 places are taken"


def test_plan_asks_for_both_trials_where_nothing_was_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    timed(store, 1.0, ranks=1, precision="bf16")
    timed(store, 1.0, ranks=4, precision="bf16")
    lines = costs(store, PACKED, [300], capsys)
    assert lines[-1] == ("  cheaper: unknown until both are timed on the machines of the cells: --trial in one process "
                         "and --trial under torchrun with 4 processes")  # fmt: skip


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
