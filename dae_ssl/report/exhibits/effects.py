"""How much each change moves a figure, with its interval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dae_ssl.experiments.form import Effects
from dae_ssl.report.comparison import in_columns
from dae_ssl.report.drawing import ABSENT, COLOURS, INK, MARKERS, Drawing, blank, distinct, frame, legend
from dae_ssl.report.significance import Estimate
from dae_ssl.report.subjects import Subject, paired
from dae_ssl.report.tables import Record


@dataclass(frozen=True)
class Effect:
    """What a row changes, in a group of rows that start from the same."""

    row: str
    group: str
    change: str
    number: int
    """Of the group."""
    estimate: Estimate | None


def effects(exhibit: Effects, subjects: Sequence[Subject]) -> Drawing:
    """Draw the difference of each row from the one that its group starts from, paired over images and seeds."""
    every = list(_measured(exhibit, subjects))
    drawn = [one for one in every if one.change != exhibit.start]
    records: list[Record] = [
        {"row": one.row, exhibit.within: one.group, exhibit.of: one.change, **in_columns(one.estimate),
         "p": None if one.estimate is None else one.estimate.p}
        for one in every
    ]  # fmt: skip
    return Drawing(_drawn(exhibit, drawn), records, absent=[one.row for one in drawn if one.estimate is None])


def _measured(exhibit: Effects, subjects: Sequence[Subject]) -> Iterator[Effect]:
    """Yield the effect of every row, 0 of those that groups start from."""
    by_label = {one.label: one for one in subjects}
    groups = distinct(one.at[exhibit.within] for one in subjects if exhibit.within in one.at)
    for number, group in enumerate(groups):
        of_group = [one for one in subjects if one.at.get(exhibit.within) == group]
        start = next(one for one in of_group if one.at[exhibit.of] == exhibit.start)
        for one in of_group:
            estimate = paired({one.label: 1.0, start.label: -1.0}, by_label, "test_accuracy")
            if one is start:
                own = one.estimate("test_accuracy")
                estimate = None if own is None else Estimate(mean=0.0, seeds=own.seeds)
            yield Effect(one.label, str(group), str(one.at[exhibit.of]), number, estimate)


def _drawn(exhibit: Effects, shown: Sequence[Effect]) -> Any:
    figure = blank(height_pixels=90 + 24 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.8)
    for height, one in enumerate(shown):
        colour, estimate = COLOURS[one.number % len(COLOURS)], one.estimate
        if estimate is None:  # at the edge, since at 0 it would say that nothing changes
            axes.plot([0.01], [height], marker="x", color=colour, linestyle="none", label=ABSENT,
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [height, height], color=colour, linewidth=1.6)
        axes.plot([estimate.mean], [height], marker=MARKERS[one.number % len(MARKERS)], color=colour, linestyle="none")
    names = [f"{one.group}: {one.change}" for one in shown]
    title = f"relative to {exhibit.start}, paired over test images and seeds, 95 % intervals"
    frame(axes, title=title, x="change of test accuracy (points)", y="")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    legend(figure, [axes])
    return figure
