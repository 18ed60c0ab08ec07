"""Draw how much each change moves test accuracy, with its interval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dae_ssl.experiments.form import Effects
from dae_ssl.report.drawing import ABSENT, INK, Drawing, blank, frame, legend_above, pen
from dae_ssl.report.experiment.exhibits.panels import values_at
from dae_ssl.report.experiment.subjects import Subject, change
from dae_ssl.report.significance import Estimate
from dae_ssl.report.table import Record, in_columns


@dataclass(frozen=True)
class Effect:
    """The effect of a row's change, in a group of rows with the same start."""

    row: str
    group: str
    change: str
    number: int
    """The number of the group, counted from 0."""
    estimate: Estimate | None


def effects(exhibit: Effects, subjects: Sequence[Subject]) -> Drawing:
    """Draw the difference of each row from the start of its group, paired over images and seeds."""
    measured = list(_measured(exhibit, subjects))
    drawn = [effect for effect in measured if effect.change != exhibit.start]
    records: list[Record] = [
        {"row": effect.row, exhibit.within: effect.group, exhibit.of: effect.change, **in_columns(effect.estimate),
         "p": None if effect.estimate is None else effect.estimate.p}
        for effect in measured
    ]  # fmt: skip
    return Drawing(_drawn(exhibit, drawn), records,
                   absent=[effect.row for effect in drawn if effect.estimate is None])  # fmt: skip


def _measured(exhibit: Effects, subjects: Sequence[Subject]) -> Iterator[Effect]:
    """Yield the effect of every row, which is 0 for the start of each group."""
    for number, group in enumerate(values_at(subjects, exhibit.within)):
        of_group = [subject for subject in subjects if subject.row.at.get(exhibit.within) == group]
        start = next(subject for subject in of_group if subject.row.at[exhibit.of] == exhibit.start)
        for subject in of_group:
            estimate = change(subject, start, "test_accuracy")
            yield Effect(subject.row.label, str(group), str(subject.row.at[exhibit.of]), number, estimate)


def _drawn(exhibit: Effects, shown: Sequence[Effect]) -> Any:
    figure = blank(height_pixels=90 + 24 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.8)
    for height, effect in enumerate(shown):
        colour, estimate = pen(effect.number).colour, effect.estimate
        if estimate is None:  # at the edge, since a mark at 0 would mean that nothing changes
            axes.plot([0.01], [height], marker="x", color=colour, linestyle="none", label=ABSENT,
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [height, height], color=colour, linewidth=1.6)
        axes.plot([estimate.mean], [height], marker=pen(effect.number).marker, color=colour, linestyle="none")
    names = [f"{effect.group}: {effect.change}" for effect in shown]
    title = f"relative to {exhibit.start}, paired over test images and seeds, with 95 % intervals"
    frame(axes, title=title, x="change of test accuracy (points)", y="")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    legend_above(figure, [axes])
    return figure
