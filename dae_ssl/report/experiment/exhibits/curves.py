"""Draw a score against a number, with a line for each kind of row."""

from collections.abc import Iterator, Sequence
from typing import Any

from dae_ssl.experiments.form import Curves
from dae_ssl.report.drawing import ABSENT, INK, MISSING, Drawing, blank, frame, legend_above, pen
from dae_ssl.report.experiment.exhibits.panels import in_panel, panels, values_at
from dae_ssl.report.experiment.subjects import Subject, change
from dae_ssl.report.scores import measure
from dae_ssl.report.significance import Estimate
from dae_ssl.report.table import Record, in_columns

PANEL_PIXELS = 400
BARS = "Bars: 95 % intervals over seeds, or over test images for an accuracy with one seed."
RAW_PIXELS = "Raw pixels, which are far below, are only in the CSV file."


def curves(exhibit: Curves, subjects: Sequence[Subject], *, published: bool) -> Drawing:
    """Draw a score against a number, with intervals; crosses at the bottom mark values that were not measured."""
    names = panels(subjects, exhibit.panels)
    figure = blank(height_pixels=PANEL_PIXELS)
    every_axes = [figure.add_subplot(1, len(names), number) for number in range(1, len(names) + 1)]
    records, absent = list[Record](), list[str]()
    for name, axes in zip(names, every_axes, strict=True):
        shown = [subject for subject in subjects if subject.floor or in_panel(subject, exhibit.panels, name)]
        for line, subject, estimate in _panel(axes, exhibit, shown):
            records.append({"panel": name, "line": line, exhibit.x: subject.row.at.get(exhibit.x),
                            "row": subject.row.label, **in_columns(estimate)})  # fmt: skip
            absent += [subject.row.label] if estimate is None else []
        if published and exhibit.score == "test_accuracy" and exhibit.relative_to is None:
            _published(axes, exhibit, shown)
        _dress(axes, exhibit, title="" if name is None else str(name), first=axes is every_axes[0])
    _share_height(every_axes)
    legend_above(figure, every_axes)
    across = exhibit.relative_to is None and any(subject.floor for subject in subjects)
    return Drawing(figure, records, (BARS, *([RAW_PIXELS] if across else [])), absent)


def _panel(axes: Any, exhibit: Curves, shown: Sequence[Subject]) -> Iterator[tuple[str, Subject, Estimate | None]]:
    """Draw the lines of a panel, then the horizontal lines; yield the name of the line, the row and its estimate."""
    for number, name in enumerate(values_at(shown, exhibit.lines)):
        of_line = [
            subject for subject in shown
            if subject.row.at.get(exhibit.lines) == name and exhibit.x in subject.row.at
        ]  # fmt: skip
        points = [(float(subject.row.at[exhibit.x]), _ordinate(exhibit, subject, of_line)) for subject in of_line]
        _curve(axes, points, number, str(name))
        _mark_missing(axes, [x for x, estimate in points if estimate is None], number)
        for subject, (_, estimate) in zip(of_line, points, strict=True):
            yield str(name), subject, estimate
    for subject in shown:
        if exhibit.relative_to is None and exhibit.x not in subject.row.at:
            yield "across", subject, _across(axes, subject, exhibit.score)


def _dress(axes: Any, exhibit: Curves, *, title: str, first: bool) -> None:
    score = measure(exhibit.score)
    label = score.axis if exhibit.relative_to is None else f"change of {score.title} (points)"
    frame(axes, title=title, x=exhibit.x_label, y=label if first else "")
    if exhibit.logarithmic:
        axes.set_xscale("log")
    if exhibit.relative_to is not None:
        axes.axhline(0, color=INK, linewidth=0.8)


def _ordinate(exhibit: Curves, subject: Subject, of_line: Sequence[Subject]) -> Estimate | None:
    """Return the value to draw for a row: its score, or the change from the line's score at `relative_to`."""
    if exhibit.relative_to is None:
        return subject.estimate(exhibit.score)
    start = next((other for other in of_line if other.row.at[exhibit.x] == exhibit.relative_to), None)
    return None if start is None else change(subject, start, exhibit.score)


def _curve(axes: Any, points: Sequence[tuple[float, Estimate | None]], number: int, name: str) -> None:
    """Draw the measured points of a line with their intervals."""
    drawn = pen(number)
    measured = [(x, estimate) for x, estimate in sorted(points, key=lambda point: point[0]) if estimate is not None]
    xs, means = [x for x, _ in measured], [estimate.mean for _, estimate in measured]
    axes.plot(xs, means, color=drawn.colour, marker=drawn.marker, markersize=5, linewidth=1.6, linestyle=drawn.style,
              label=name)  # fmt: skip
    for x, estimate in measured:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([x, x], [estimate.low, estimate.high], color=drawn.colour, linewidth=1.0, alpha=0.7)


def _mark_missing(axes: Any, gaps: Sequence[float], number: int) -> None:
    """Draw a cross at the bottom of the axes for every point that was not measured, at another height for each line."""
    if gaps:
        heights = [0.03 + 0.035 * number] * len(gaps)
        axes.plot(gaps, heights, transform=axes.get_xaxis_transform(), color=pen(number).colour, marker="x",
                  markersize=5, linestyle="none", clip_on=False, label=ABSENT)  # fmt: skip


def _across(axes: Any, subject: Subject, score: str) -> Estimate | None:
    """Draw a floor, or a row without a value on the axis, as a horizontal line; raw pixels are not drawn."""
    estimate = subject.estimate(score)
    if estimate is not None and not (subject.floor and not subject.seeded):
        colour, style = (MISSING, "-.") if subject.floor else (INK, ":")
        axes.axhline(estimate.mean, color=colour, linestyle=style, linewidth=1.2, label=subject.row.label)
    return estimate


def _published(axes: Any, exhibit: Curves, subjects: Sequence[Subject]) -> None:
    rows = [subject.row for subject in subjects if subject.row.published and exhibit.x in subject.row.at]
    if rows:
        xs, accuracies = [float(row.at[exhibit.x]) for row in rows], [row.published for row in rows]
        axes.plot(xs, accuracies, linestyle="none", marker="*", markersize=11, markerfacecolor="none", color=INK,
                  label="published")  # fmt: skip


def _share_height(every_axes: Sequence[Any]) -> None:
    """Give panels the same scale."""
    limits = [axes.get_ylim() for axes in every_axes]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    for axes in every_axes:
        axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))  # room for the horizontal lines
