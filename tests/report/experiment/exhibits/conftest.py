"""Rows whose scores are as a test has them, without a store."""

import dataclasses
from collections.abc import Callable, Mapping

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.experiments.form import Row
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.findings import Findings
from dae_ssl.store import Store
from tests.forged import a_cell

Measured = Callable[..., Subject]


@pytest.fixture
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Make a row of one score by seed, or of several by seed and name, as records would have them."""
    store = Store(tmp_path_factory.getbasetemp() / "nothing")

    def make(
        row: Row, values: Mapping[int, float | Mapping[str, float]], *, score: str = "kmeans_nmi", method: str = "dae",
        floor: bool = False,
    ) -> Subject:  # fmt: skip
        findings = []
        for seed, value in values.items():
            of_seed = Findings(row.label, dataclasses.replace(a_cell(method=method), seed=seed), store)
            of_seed.__dict__["scores"] = dict(value) if isinstance(value, Mapping) else {score: value}
            findings.append(of_seed)
        return Subject(row, tuple(findings), floor=floor)

    return make
