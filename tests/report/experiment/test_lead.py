"""What stands above all on an experiment's page: which study it is, in which precision, what is computed again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dae_ssl import config, experiments
from dae_ssl.compute import cells
from dae_ssl.report.experiment import verdicts
from dae_ssl.report.experiment.page import write_experiment_page
from dae_ssl.report.standing import ANEW
from dae_ssl.store import Store, products_digest
from jobs.scales import SMALL
from tests.forged import Page, forge
from tests.report.experiment.conftest import drawn, floors, records


def forged_page(store: Store, *scales: str, right: float = 0.8, **changes: Any) -> Path:
    """Forge Figure 4's cells with some changes, and draw their page, without those of its cells."""
    denoising = experiments.load("denoising")
    shown = denoising.sections((0, 1, 2), changes)
    for number, cell in enumerate([*denoising.in_order(shown), *floors(shown)]):
        forge(store, cell, right=right, seed=number)
    return page_alone(store, variant=called(scales, changes), changes=changes)


def called(scales: Sequence[str], changes: Mapping[str, Any]) -> str:
    """Return what the page of changed cells is called: by the name of a scale, which stands for all but precision."""
    others = {name: value for name, value in changes.items() if not scales or name == "precision"}
    return experiments.called(scales, others)


def page_alone(store: Store, *, variant: str = "", changes: Mapping[str, Any] | None = None) -> Path:
    denoising = experiments.load("denoising")
    shown = denoising.sections((0, 1, 2), changes or {})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dae_ssl.report.experiment.page._draw_cell", lambda *_: None)
        return write_experiment_page(denoising, shown, floors(shown), store, variant=variant)


def verdicts_of(path: Path) -> set[str]:
    lines = records(path.parent / "denoising-accuracies.csv")
    return {line["verdict"].removesuffix(verdicts.ONE_SEED) for line in lines} - {""}


@pytest.mark.parametrize("precision", [{}, {"precision": "bf16"}])
def test_reduced_study_has_a_page_of_its_own_that_says_so_and_compares_no_number(
    precision: dict[str, str], tmp_path: Path
) -> None:
    path = forged_page(Store(tmp_path), "small", **SMALL, **precision)
    called = "-".join(["small", *precision.values()])
    assert path.parent.name == f"denoising-{called}"
    text = Page(path).text
    assert f"not the study as published ({called})." in text
    assert verdicts_of(path) == {verdicts.REDUCED}
    assert ("Pretrained in bf16" in text) == bool(precision)
    assert "compared with the published" not in text


@pytest.fixture(scope="module")
def precisions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of Figure 4 in each precision, of one store; accuracies lie far above the published."""
    store = Store(tmp_path_factory.mktemp("precisions"))
    return {name: forged_page(store, precision=name, right=0.95) for name in ("fp32", "tf32", "bf16")}


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_study_in_another_precision_is_of_full_length_has_its_own_page_and_says_which(
    precision: str, precisions: dict[str, Path]
) -> None:
    assert [path.parent.name for path in precisions.values()] == ["denoising", "denoising-tf32", "denoising-bf16"]
    path = precisions[precision]
    assert verdicts_of(path) == {verdicts.DIFFERS}
    text = Page(path).text
    assert f"Pretrained in {precision}" in text
    assert "The default is fp32." in text
    assert "TensorFloat-32 in convolutions" in text
    assert "probe and k-means are computed in float32" in text
    assert "not the study as published" not in text
    usual = Page(precisions["fp32"]).text
    assert "Pretrained in fp32" in usual
    assert "not the study as published" not in usual


def test_page_of_one_precision_shows_no_cell_of_another_that_the_store_has(precisions: dict[str, Path]) -> None:
    shown: list[str] = []
    for path in precisions.values():
        lines = records(path.parent / "denoising-accuracies.csv")
        shown += {line["cells"] for line in lines if "embedding loss" in line["row"]}
    assert len(set(shown)) == len(shown) == 3 * 2


def test_page_whose_rows_differ_in_precision_says_that_they_do(tmp_path: Path) -> None:
    text = Page(drawn(Store(tmp_path), "precision")).text
    assert "Each row is pretrained in the precision that its name gives. fp32: float32" in text
    assert "; tf32: " in text
    assert "; bf16: " in text


def test_page_says_how_many_scores_come_from_nodes_that_would_be_computed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = forged_page(store, precision="fp32")
    assert "would compute again" not in Page(path).text
    (section,) = experiments.load("denoising").sections((0, 1, 2))
    cell = next(iter(section.cells.values()))[0]
    for stage, node in cells.nodes(cell, store).items():  # as if its parents were others when it was made
        if (above := cell.parent(stage)) is not None:
            parent = products_digest(store.node(above, config.key(cell, above)).record() or {})
            made_from = "another" if stage == "probe" else parent
            node.commit({name: value for name, value in (node.record() or {}).items() if name != "products"}
                        | {"parent": made_from})  # fmt: skip
    text = Page(page_alone(store)).text
    every = [*section.every(), *floors((section,))]
    scores = sum(len(cells.scores(cell, store)) for cell in experiments.distinct(every))
    assert f"6 of the {scores} measured scores come from nodes that `dae-ssl submit` would" in text
    assert ANEW in text
