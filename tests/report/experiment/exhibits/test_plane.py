"""One score against another: a point for each row, with its mark beside it."""

import pytest

from dae_ssl.experiments.form import Plane, Row
from dae_ssl.report.drawing import ABSENT
from dae_ssl.report.experiment.exhibits.plane import plane
from dae_ssl.report.experiment.subjects import Subject
from tests.report.experiment.exhibits.conftest import Measured

EXHIBIT = Plane(name="p", title="P", x="kmeans_nmi", y="kmeans_ari", colour="validation_accuracy", lines="loss",
                panels="kind")  # fmt: skip


def scores(x: float, y: float, share: float) -> dict[int, dict[str, float]]:
    return {0: {"kmeans_nmi": x, "kmeans_ari": y, "validation_accuracy": share}}


def test_beside_each_point_stands_the_rows_mark_and_its_label_where_it_has_none(measured: Measured) -> None:
    at = {"kind": "DAE", "loss": "L2"}
    rows = [measured(Row("weak, α = 0.1", at=at, mark="0.1"), scores(0.1, 0.2, 0.5)),
            measured(Row("strong, α = 1", at=at), scores(0.3, 0.1, 0.6))]  # fmt: skip
    drawing = plane(EXHIBIT, rows)
    axes = drawing.figure.axes[0]
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("0.1", (0.1, 0.2)), ("strong, α = 1", (0.3, 0.1))]
    (points,) = axes.collections
    assert list(points.get_array()) == pytest.approx([50.0, 60.0])


def test_row_without_a_line_lies_across_and_one_that_lacks_a_score_is_named(measured: Measured) -> None:
    rows = [measured(Row("plain", at={"kind": "AE"}), {0: {"kmeans_ari": 0.25}}),
            measured(Row("half", at={"kind": "AE", "loss": "L1"}), {0: {"kmeans_ari": 0.3}}),
            Subject(Row("none", at={"kind": "AE", "loss": "L1"}))]  # fmt: skip
    drawing = plane(EXHIBIT, rows)
    (axes,) = drawing.figure.axes
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[0.25, 0.25]]
    assert axes.get_title("left") == f"AE, L1: {ABSENT}"
    assert drawing.absent == ["half", "none"]
    assert [(record["row"], record["line"]) for record in drawing.records] == [
        ("half", "L1"), ("none", "L1"), ("plain", "across"),
    ]  # fmt: skip
