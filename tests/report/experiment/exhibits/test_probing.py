"""Validation accuracy by probe epoch: means over seeds, shaded to the lowest and the highest."""

import numpy as np
import pytest

from dae_ssl.experiments.form import Row
from dae_ssl.report.experiment.exhibits.probing import probe_curves
from dae_ssl.report.experiment.subjects import Subject
from tests.report.experiment.exhibits.conftest import Measured


def test_curve_is_the_mean_over_seeds_as_far_as_all_have_it(measured: Measured) -> None:
    row = measured(Row("a"), {0: 0.0, 1: 0.0})
    for of_seed, shares in zip(row.findings, ([0.1, 0.2, 0.9], [0.3, 0.6]), strict=True):
        term = f"validation_accuracy/lr{of_seed.cell.probe.learning_rates[0]:g}"
        of_seed.__dict__["_curves"] = {"probe": {term: list(enumerate(shares, 1))}}
    drawing = probe_curves([row, Subject(Row("b"))])
    (axes,) = drawing.figure.axes
    line, missing = axes.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2], pytest.approx([20.0, 40.0]))
    (shaded,) = axes.collections
    edges = shaded.get_paths()[0].vertices[:, 1]
    assert (np.min(edges), np.max(edges)) == pytest.approx((10.0, 60.0))
    assert missing.get_label() == "b: not yet measured"
    assert drawing.absent == ["b"]
