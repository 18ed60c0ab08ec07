"""How far cells are: pages and plans agree, or the page says how many scores plans would compute again, and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import nodes
from dae_ssl.compute.cells import floors
from dae_ssl.config import Cell
from dae_ssl.files import write_json
from dae_ssl.report import standing
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.report.standing import ANEW, GONE, LEFT
from dae_ssl.store import FEATURES, LEFT_BEHIND, RECORD, Folder, Store, encoder_name, products_digest
from tests.forged import Page, a_cell, forge

PRODUCTS = {"pretrain": encoder_name(4), "features": FEATURES}


def folder(store: Store, cell: Cell, stage: str) -> Folder:
    return store.node(stage, config.key(cell, stage))


def commit(store: Store, cell: Cell, stage: str, **facts: Any) -> None:
    """Commit a forged node again, made from what its parent holds now."""
    node = folder(store, cell, stage)
    record = json.loads(node.product(RECORD).read_text()) | facts
    above = cell.parent(stage)
    if above is not None:
        record["parent"] = products_digest(folder(store, cell, above).record() or {})
    node.commit({name: value for name, value in record.items() if name != "products"})


def measured(store: Store, cell: Cell, *, seed: int = 1) -> Cell:
    """Forge a cell whose nodes were each made from what its parent holds: 6 scores of probe, 8 of kmeans, 2 more."""
    forge(store, cell, right=0.9, seed=seed)
    for stage in cell.stages():
        if stage in PRODUCTS:
            folder(store, cell, stage).product(PRODUCTS[stage]).write_text("as it was")
        commit(store, cell, stage, **({"figures": {"a": 1.0, "b": 2.0}} if stage == "features" else {}))
    return cell


def compute_anew(store: Store, cell: Cell, stage: str) -> None:
    folder(store, cell, stage).product(PRODUCTS[stage]).write_text("computed anew")
    commit(store, cell, stage)


def leave_behind(store: Store, cell: Cell, stage: str) -> None:
    """Drop a product as if the node had been brought here from another store; nodes made from it stay as current."""
    node = folder(store, cell, stage)
    record = node.record() or {}
    record[LEFT_BEHIND] = {PRODUCTS[stage]: record["products"].pop(PRODUCTS[stage])}
    node.product(PRODUCTS[stage]).unlink()
    write_json(node.product(RECORD), record)


def leave_kmeans_missing(store: Store, cell: Cell) -> None:
    leave_behind(store, cell, "pretrain")
    leave_behind(store, cell, "features")
    shutil.rmtree(folder(store, cell, "kmeans").path)


def far(store: Store, *cells: Cell) -> standing.Standing:
    """Return the progress of cells; plans must compute the same nodes again."""
    result = standing.of_cells(cells, store)
    wanted = nodes.needed(cells)
    assert result.reasons.keys() == nodes.committed(wanted, store).keys() - nodes.finished(wanted, store)
    return result


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def cell(store: Store) -> Cell:
    return measured(store, a_cell())


def test_nothing_is_said_where_pages_and_plans_agree(store: Store, cell: Cell) -> None:
    result = far(store, cell, a_cell(seed=1))
    assert result.line() == "1 of 2 cells are measured"
    assert (result.sentence(), result.scores, result.reasons) == ("", 16, {})


def test_scores_of_nodes_whose_parent_was_computed_anew_are_counted(store: Store, cell: Cell) -> None:
    compute_anew(store, cell, "features")
    result = far(store, cell, measured(store, a_cell(seed=1), seed=2))
    assert {stage for stage, _ in result.reasons} == {"probe", "kmeans"}
    assert set(result.reasons.values()) == {ANEW}
    assert result.line() == f"2 of 2 cells are measured; 1 of them has nodes to compute again, since {ANEW}"
    assert result.sentence().startswith("14 of the 32 measured scores come from nodes that `dae-ssl submit` would")
    assert ANEW in result.sentence()


def test_nodes_further_down_are_to_be_computed_again_for_the_same_reason(store: Store, cell: Cell) -> None:
    compute_anew(store, cell, "pretrain")
    assert {stage: reason for (stage, _), reason in far(store, cell).reasons.items()} == dict.fromkeys(
        ("features", "probe", "kmeans"), ANEW
    )


def test_scores_of_nodes_whose_parent_is_gone_are_counted(store: Store, cell: Cell) -> None:
    shutil.rmtree(folder(store, cell, "features").path)
    result = far(store, cell)
    assert set(result.reasons.values()) == {GONE}
    assert (result.measured, result.again, result.scores, result.scores_again) == (0, 0, 14, 14)


def test_features_left_behind_count_until_a_missing_node_reads_them(store: Store, cell: Cell) -> None:
    leave_behind(store, cell, "pretrain")
    leave_behind(store, cell, "features")
    assert far(store, cell).reasons == {}
    other = a_cell(kmeans={"clusters": 7})
    assert config.key(other, "features") == config.key(cell, "features")
    result = far(store, cell, other)
    assert {stage: reason for (stage, _), reason in result.reasons.items()} == {"pretrain": LEFT, "features": LEFT}
    assert result.line() == f"1 of 2 cells are measured; 1 of them has nodes to compute again, since {LEFT}"
    assert result.sentence().startswith("2 of the 16 measured scores come from nodes"), "those of features"


def test_one_score_is_spoken_of_as_one() -> None:
    node = ("probe", "0")
    result = standing.Standing(cells=1, measured=1, again=1, scores=9, scores_again=1, reasons={node: ANEW})
    assert "1 of the 9 measured scores comes from nodes" in result.sentence()


def test_cell_that_is_asked_for_twice_is_counted_once(store: Store, cell: Cell) -> None:
    assert far(store, cell, cell).line() == "1 of 1 cells are measured"


# ---------------------------------------------------------------------------------- on the page of a cell


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda store, cell: compute_anew(store, cell, "features"), {"probe": ANEW, "kmeans": ANEW}),
        (leave_kmeans_missing, {"features": LEFT, "pretrain": LEFT}),
        (lambda _store, _cell: None, {}),
    ],
)  # fmt: skip
def test_page_of_a_cell_says_what_of_it_would_be_computed_again(
    store: Store, cell: Cell, change: Callable[[Store, Cell], None], again: dict[str, str]
) -> None:
    change(store, cell)
    result = far(store, cell)
    page = Page(write_cell_page(cell, store, {}))
    states = dict(zip(cell.stages(), page.row("state"), strict=True))
    for stage in cell.stages():
        committed = folder(store, cell, stage).record() is not None
        expected = f"done; will be computed again, since {again[stage]}" if stage in again else "done"
        assert states[stage].strip() == (expected if committed else "missing")
    assert bool(result.sentence()) == bool(again)
    assert result.sentence() in page.text
    assert ("would compute again" in page.text) == bool(again)


def test_page_of_a_cell_counts_the_scores_of_its_floors(store: Store, cell: Cell) -> None:
    beside = floors(cell)
    pixels = beside["raw pixels"]
    forge(store, pixels, right=0.5, seed=3)
    for stage in pixels.stages():
        if stage == "features":
            folder(store, pixels, stage).product(FEATURES).write_text("as it was")
        commit(store, pixels, stage)
    compute_anew(store, pixels, "features")
    page = Page(write_cell_page(cell, store, {"raw pixels": pixels}))
    assert "14 of the 30 measured scores come from nodes" in page.text
