"""The lines with which a run ends say what the stored arrays give by hand, and no more than they show."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from dae_ssl import config
from dae_ssl.compute.cells import floors
from dae_ssl.config import Cell
from dae_ssl.report.cell.closing import closing, compared
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.report.findings import Findings
from dae_ssl.store import CORRECT, Store
from tests.forged import TEST_IMAGES, Page, a_cell, forge, forge_all

ONE_SEED = {"epochs": 3, "seeds": [0], "learning_rates": [0.001]}


def lines_of(cell: Cell, store: Store, beside: Mapping[str, Cell]) -> list[str]:
    return [*closing(Findings("this cell", cell, store), [Findings(*of, store) for of in beside.items()])]


def right(store: Store, cell: Cell, classifier: str) -> np.ndarray:
    """Return which test images a classifier of one seed got right, (n,)."""
    with np.load(store.node("probe", config.key(cell, "probe")).product(CORRECT)) as content:
        return np.asarray(content[classifier][0])


def by_hand(mine: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float, float]:
    """Return the paired difference in points, its normal interval, and McNemar's exact p."""
    n = len(mine)
    each = [100 * (int(a) - int(b)) for a, b in zip(mine, theirs, strict=True)]
    mean = sum(each) / n
    error = math.sqrt(sum((one - mean) ** 2 for one in each) / (n - 1) / n)
    won, lost = sum(one > 0 for one in each), sum(one < 0 for one in each)
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    return mean, mean - 1.959964 * error, mean + 1.959964 * error, min(1.0, 2 * tail)


@pytest.mark.parametrize(("probe", "classifier"), [("linear probe", "probe"), ("logistic regression", "logistic")])
def test_each_difference_is_that_of_the_stored_arrays_by_hand(tmp_path: Path, probe: str, classifier: str) -> None:
    store, cell = Store(tmp_path), a_cell(probe=ONE_SEED)
    beside = forge_all(store, cell)
    lines = lines_of(cell, store, beside)
    at = lines.index(f"by the {probe}, this cell is")
    for line, (words, floor) in zip(lines[at + 1 : at + 3], beside.items(), strict=True):
        mean, low, high, p = by_hand(right(store, cell, classifier), right(store, floor, classifier))
        assert f" the {words}: " in line
        numbers = [float(text.replace("−", "-")) for text in re.findall(r"[+−]\d+\.\d\d", line)]
        assert numbers == pytest.approx([mean, low, high], abs=0.0051)
        assert line.endswith("p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}")
        verdict = "better than" if mean > 0 else "worse than"
        assert line.strip().startswith(verdict if p < 0.05 else "not shown to differ from")


def test_accuracies_and_intervals_are_those_of_the_page(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    beside = forge_all(store, cell)
    page = Page(write_cell_page(cell, store, beside))
    lines = lines_of(cell, store, beside)
    assert f"digits: top-1 % of {TEST_IMAGES} test images" in lines[0]
    titles = ("Test, the study's probe", "Test, logistic regression (L-BFGS)", "Matched accuracy (%), plain")
    for column, name in enumerate(["this cell", *beside]):
        place = max(0, 2 * column - 1)
        *accuracies, clusters = (page.row(title)[place].strip() for title in titles)
        (line,) = (line for line in lines if line.startswith(f"{name} ") or line.startswith(f"{name}["))
        shown = re.findall(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]|\d+\.\d\d$", line)
        assert shown == [*accuracies, clusters.split()[0]]


def test_several_probe_seeds_are_better_only_if_each_is(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    (name, floor), *_ = floors(cell).items()
    forge(store, cell, right=0.9, seed=1)
    forge(store, floor, right=0.6, seed=2)
    mine, theirs = Findings("this cell", cell, store), Findings(name, floor, store)
    line = compared(mine, theirs, "test_accuracy")
    assert line.startswith("better than the random encoder: +")
    assert line.endswith("p < 0.001 for all 2 seeds")
    assert compared(theirs, mine, "test_accuracy").startswith("worse than the this cell: −")
    as_good = mine.correct["probe"].copy()
    as_good[0] = theirs.correct["probe"][0]
    mine.__dict__["correct"] = mine.correct | {"probe": as_good}
    assert compared(mine, theirs, "test_accuracy").startswith("not shown to differ from the random encoder: +")


def test_other_test_images_are_not_compared(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    (name, floor), *_ = forge_all(store, cell).items()
    other = Findings(name, floor, store)
    other.__dict__["correct"] = other.correct | {"ids": np.arange(TEST_IMAGES) + 1}
    line = compared(Findings("this cell", cell, store), other, "test_accuracy")
    assert line == "not compared with the random encoder: other test images or seeds"


def test_cell_without_floors_has_a_table_and_no_verdict(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    forge(store, cell, right=0.9, seed=1)
    lines = lines_of(cell, store, {})
    assert [line for line in lines if "this cell" in line] == [lines[2]]
    assert not any(word in "\n".join(lines) for word in ("better", "worse", "differ"))
