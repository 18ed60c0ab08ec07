"""How much each change moves test accuracy, from the row that its group starts from."""

from dae_ssl.experiments.form import Effects, Row
from dae_ssl.report.drawing import ABSENT
from dae_ssl.report.experiment.exhibits.effects import effects
from dae_ssl.report.experiment.subjects import Subject
from tests.report.experiment.exhibits.conftest import Measured

EXHIBIT = Effects(name="e", title="E", of="change", within="method", start="as it is")


def test_every_change_is_a_difference_within_its_group_and_what_is_missing_is_a_cross_at_the_edge(
    measured: Measured,
) -> None:
    def row(method: str, change: str, *shares: float) -> Subject:
        name = Row(f"{method}: {change}", at={"method": method, "change": change})
        return measured(name, dict(enumerate(shares)), score="test_accuracy")

    rows = [row("A", "as it is", 0.5, 0.6), row("A", "without crop", 0.4, 0.3), row("B", "without crop"),
            row("B", "as it is", 0.1)]  # fmt: skip
    drawing = effects(EXHIBIT, rows)
    assert {record["row"]: record["mean"] for record in drawing.records} == {
        "A: as it is": 0.0, "A: without crop": -20.0, "B: as it is": 0.0, "B: without crop": None,
    }  # fmt: skip
    (axes,) = drawing.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["A: without crop", "B: without crop"]
    (cross,) = (line for line in axes.get_lines() if line.get_label() == ABSENT)
    assert list(cross.get_ydata()) == [1]
    assert drawing.absent == ["B: without crop"]
