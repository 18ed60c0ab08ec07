"""Pictures of an experiment: a row for each row's networks, under its mark."""

import numpy as np

from dae_ssl.experiments.form import Row
from dae_ssl.report.experiment.exhibits.pictures import reconstructions, strengths
from dae_ssl.report.experiment.subjects import Subject
from tests.forged import a_cell
from tests.report.experiment.exhibits.conftest import Measured

NAMES = ("clean", "view1", "view2", "reconstruction1", "reconstruction2")


def with_pictures(subject: Subject, *epochs: int) -> Subject:
    kept = {epoch: {name: np.full((4, 32, 32, 3), epoch, np.uint8) for name in NAMES} for epoch in epochs}
    subject.findings[-1].__dict__["pictures"] = kept
    for of_seed in subject.findings[:-1]:
        of_seed.__dict__["pictures"] = {}
    return subject


def test_networks_stand_under_the_marks_of_their_rows_and_those_without_pictures_are_named(measured: Measured) -> None:
    rows = [with_pictures(measured(Row("DAE, no embedding loss", mark="DAE"), {0: 0.1, 1: 0.1}), 1, 4),
            with_pictures(measured(Row("AE, plain"), {0: 0.1}), 4), measured(Row("gone"), {0: 0.1})]  # fmt: skip
    drawing = reconstructions(a_cell(), rows)
    (axes,) = drawing.figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["clean", "view 1", "DAE", "AE, plain", "view 2", "DAE", "AE, plain"]
    assert set(np.unique(axes.images[0].get_array())) == {4, 255}, "of the last kept epoch"
    assert drawing.absent == ["gone"]


def test_nothing_is_drawn_without_pictures(measured: Measured) -> None:
    rows = [measured(Row("gone"), {0: 0.1})]
    for drawing in (reconstructions(a_cell(), rows), strengths(a_cell(), rows)):
        assert drawing.figure is None
        assert drawing.absent
