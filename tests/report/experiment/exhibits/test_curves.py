"""A score against a number: points where rows stand, crosses where nothing was measured, floors across."""

from collections.abc import Mapping

import pytest

from dae_ssl.experiments.form import Curves, Row
from dae_ssl.report.drawing import ABSENT
from dae_ssl.report.experiment.exhibits.curves import curves
from dae_ssl.report.experiment.subjects import Subject
from tests.report.experiment.exhibits.conftest import Measured

EXHIBIT = Curves(name="c", title="C", x="s", x_label="strength", score="kmeans_nmi", lines="method", panels="kind")


def subjects(measured: Measured) -> list[Subject]:
    """Return two lines of two points in two panels, one point not measured, and both floors."""

    def at(kind: str, method: str, s: float) -> Mapping[str, float | str]:
        return {"kind": kind, "method": method, "s": s}

    return [
        measured(Row("a0", at=at("DAE", "a", 0.0)), {0: 0.2, 1: 0.4}),
        measured(Row("a1", at=at("DAE", "a", 1.0)), {0: 0.5, 1: 0.7}),
        measured(Row("b0", at=at("AE", "b", 0.0)), {0: 0.1}),
        Subject(Row("b1", at=at("AE", "b", 1.0))),
        measured(Row("no encoder was trained", key="random"), {0: 0.15}, method="random", floor=True),
        measured(Row("as they are", key="pixels"), {0: 0.01}, method="pixels", floor=True),
    ]


def test_points_are_means_over_seeds_and_what_is_missing_is_a_cross_and_named(measured: Measured) -> None:
    drawing = curves(EXHIBIT, subjects(measured), published=True)
    dae, ae = drawing.figure.axes
    assert (dae.get_title("left"), ae.get_title("left")) == ("DAE", "AE")
    (line,) = (line for line in dae.get_lines() if line.get_label() == "a")
    assert list(line.get_xdata()) == [0.0, 1.0]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.6])
    (cross,) = (line for line in ae.get_lines() if line.get_label() == ABSENT)
    assert (list(cross.get_xdata()), cross.get_marker()) == ([1.0], "x")
    assert drawing.absent == ["b1"]
    assert {record["row"]: record["mean"] for record in drawing.records if record["panel"] == "DAE"} == {
        "a0": 0.3, "a1": 0.6, "no encoder was trained": 0.15, "as they are": 0.01,
    }  # fmt: skip


def test_floor_lies_across_but_raw_pixels_are_in_the_numbers_only_whatever_they_are_called(measured: Measured) -> None:
    drawing = curves(EXHIBIT, subjects(measured), published=True)
    for axes in drawing.figure.axes:
        labels = [line.get_label() for line in axes.get_lines()]
        assert "no encoder was trained" in labels
        assert "as they are" not in labels


def test_change_is_drawn_from_the_lines_point_that_it_is_relative_to(measured: Measured) -> None:
    exhibit = Curves(name="c", title="C", x="s", x_label="s", score="kmeans_nmi", lines="method", relative_to=0.0)
    drawing = curves(exhibit, subjects(measured), published=True)
    assert {record["row"]: record["mean"] for record in drawing.records} == {
        "a0": 0.0, "a1": 0.3, "b0": 0.0, "b1": None,
    }  # fmt: skip


def test_published_numbers_are_stars_but_not_in_a_reduced_study(measured: Measured) -> None:
    exhibit = Curves(name="c", title="C", x="s", x_label="s", score="test_accuracy", lines="method")
    row = Row("a", at={"s": 1.0, "method": "a"}, published=65.9)
    for published in (True, False):
        drawing = curves(exhibit, [measured(row, {0: 0.6}, score="test_accuracy")], published=published)
        stars = [line for axes in drawing.figure.axes for line in axes.get_lines() if line.get_label() == "published"]
        assert [list(star.get_ydata()) for star in stars] == ([[65.9]] if published else [])
