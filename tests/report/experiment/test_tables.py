"""The tables of an experiment: numbers of the records beside the published ones, claims, how far it is."""

from pathlib import Path

import numpy as np
import pytest

from dae_ssl.compute import cells
from dae_ssl.experiments.form import Claim, Numbers, Row
from dae_ssl.report.experiment import tables, verdicts
from dae_ssl.report.experiment.parts import Part, part
from dae_ssl.report.findings import reader
from dae_ssl.report.significance import Estimate, over_seeds
from dae_ssl.store import Store
from tests.report.experiment.conftest import RIGHT, floors, sections


@pytest.fixture(scope="module")
def methods(store: Store) -> Part:
    (section,) = sections("methods")
    return part(section, floors((section,)), reader(store))


def of_rows(methods: Part) -> list[Row]:
    return [row for row in methods.section.shown if row.label in RIGHT]


def test_table_has_the_numbers_of_the_records_beside_the_published_ones(methods: Part, store: Store) -> None:
    table = tables.rows(Numbers(name="t", title="T", scores=("test_accuracy", "kmeans_nmi")), methods, folder=Path())
    by_row = {record["row"]: record for record in table.records if record["figure"] == "test_accuracy"}
    for row in of_rows(methods):
        scores = [cells.scores(cell, store) for cell in methods.section.cells[row]]
        values = [100 * of_seed["test_accuracy"] for of_seed in scores if of_seed]
        record = by_row[row.label]
        assert row.published is not None
        assert record["mean"] == pytest.approx(np.mean(values), abs=1e-5)
        assert record["seeds"] == len(values) == (1 if row.label == "SimCLR" else 2)
        assert record["published"] == row.published
        assert record["difference"] == pytest.approx(np.mean(values) - row.published, abs=1e-3)
        low, high = record["low"], record["high"]
        if len(values) > 1:
            expected = over_seeds(values)
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-5)
        assert record["interval_over"] == ("images" if len(values) == 1 else "seeds")
        verdict = verdicts.AGREES if low <= row.published <= high else verdicts.DIFFERS
        assert record["verdict"] == verdict + (verdicts.ONE_SEED if len(values) == 1 else "")


def test_published_number_stands_before_the_measured_one_and_the_verdict_behind(methods: Part) -> None:
    table = tables.rows(Numbers(name="t", title="T", scores=("kmeans_nmi", "test_accuracy")), methods, folder=Path())
    assert table.head == ["", "k-means, NMI", "published", "test accuracy, top-1 (%)", "difference", "verdict", "cells"]
    line = next(line for line in table.lines if line.name == "DAE, no embedding loss")
    mean = next(record["mean"] for record in table.records
                if record["row"] == line.name and record["figure"] == "test_accuracy")  # fmt: skip
    _, published, measured, difference, verdict, _ = line.entries
    assert isinstance(mean, float)
    assert (published.text, measured.text) == ("65.9", f"{mean:.2f}")
    assert difference.text == f"{mean - 65.9:+.2f}".replace("-", "−")
    assert verdict.text in (verdicts.AGREES, verdicts.DIFFERS)


def test_claim_stands_beside_its_number_its_interval_and_its_verdict() -> None:
    claim = Claim(words="A is better", source="Table 2", weights={"a": 1}, above=1.0, below=4.0)
    estimate = Estimate(mean=2.5, low=-0.5, high=5.5, p=0.02, seeds=3, over="seeds and images")
    tests = [verdicts.Tested(claim=claim, estimate=estimate, verdict=verdicts.UNDECIDED),
             verdicts.Tested(claim=claim, estimate=None, verdict=verdicts.UNMEASURED)]  # fmt: skip
    measured, missing = tables.claims(tests, title="T").lines
    assert [entry.text for entry in measured.entries] == [
        "Table\N{NO-BREAK SPACE}2", "", "1 to 4", "+2.50", "[−0.50, +5.50]", "p = 0.020", "undecided",
    ]  # fmt: skip
    assert measured.entries[4].small == "over 3 seeds and images"
    assert [entry.text for entry in missing.entries][3:] == ["not yet measured", "", "", "not yet measured"]
    assert missing.entries[-1].absent


def test_summary_counts_the_cells_that_are_done_and_what_came_of_them(methods: Part, store: Store) -> None:
    section = methods.section
    table = tables.summary([methods], reader(store))
    done = [cell for cell in section.every() if len(cells.committed_records(cell, store)) == len(cell.stages())]
    counts: dict[object, int] = {}
    for record in table.records:
        counts[record["what"]] = counts.get(record["what"], 0) + int(record["count"] or 0)
    assert counts == {
        "cells done": len(done), "cells": len(section.every()), "claim": len(section.claims),
        "published number": sum(row.published is not None for row in section.shown),
    }  # fmt: skip
    assert table.lines[0].entries[0].text == f"{len(done)} of {len(section.every())}"
