"""How much each change moves a figure, with its interval."""

from collections.abc import Sequence

from dae_ssl.experiments.form import Effects
from dae_ssl.report.comparison import in_columns
from dae_ssl.report.drawing import ABSENT, COLOURS, INK, MARKERS, Drawing, blank, distinct, frame, legend
from dae_ssl.report.significance import Estimate
from dae_ssl.report.subjects import Subject, paired
from dae_ssl.report.tables import Record


def effects(exhibit: Effects, subjects: Sequence[Subject]) -> Drawing:
    """Draw the difference of each row from the one that its group starts from, paired over images and seeds."""
    by_label = {one.label: one for one in subjects}
    groups = distinct(one.at[exhibit.within] for one in subjects if exhibit.within in one.at)
    records, absent, entries = list[Record](), list[str](), list[tuple[str, Estimate | None, int]]()
    for number, group in enumerate(groups):
        of_group = [one for one in subjects if one.at.get(exhibit.within) == group]
        start = next(one for one in of_group if one.at[exhibit.of] == exhibit.start)
        own = start.estimate("test_accuracy")
        none = None if own is None else Estimate(mean=0.0, seeds=own.seeds)
        records.append({"row": start.label, exhibit.within: group, exhibit.of: exhibit.start, **in_columns(none)})
        for one in (one for one in of_group if one is not start):
            estimate = paired({one.label: 1.0, start.label: -1.0}, by_label, "test_accuracy")
            entries.append((f"{group}: {one.at[exhibit.of]}", estimate, number))
            place = {exhibit.within: group, exhibit.of: one.at[exhibit.of]}
            p = None if estimate is None else estimate.p
            records.append({"row": one.label, **place, **in_columns(estimate), "p": p})
            absent += [one.label] if estimate is None else []
    figure = blank(height_pixels=90 + 24 * len(entries))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.8)
    for height, (_, estimate, number) in enumerate(entries):
        colour = COLOURS[number % len(COLOURS)]
        if estimate is None:
            axes.plot([0.01], [height], marker="x", color=colour, linestyle="none", label=ABSENT,
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [height, height], color=colour, linewidth=1.6)
        axes.plot([estimate.mean], [height], marker=MARKERS[number % len(MARKERS)], color=colour, linestyle="none")
    axes.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    axes.invert_yaxis()
    title = f"relative to {exhibit.start}, paired over test images and seeds, 95 % intervals"
    frame(axes, title=title, x="change of test accuracy (points)", y="")
    axes.yaxis.set_major_formatter(lambda value, _: entries[int(value)][0] if 0 <= value < len(entries) else "")
    legend(figure, [axes])
    return Drawing(figure, records, absent=absent)
