"""Draw one score against another, coloured by a third."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dae_ssl.experiments.form import Plane
from dae_ssl.report.drawing import ABSENT, FAINT, INK, LABEL_POINTS, SMALL_POINTS, Drawing, blank, frame
from dae_ssl.report.experiment.exhibits.panels import in_panel, panels, values_at
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.scores import measure
from dae_ssl.report.table import Record

PANEL_PIXELS = 330


@dataclass(frozen=True)
class Point:
    """A row as a point of the figure."""

    x: float
    y: float
    colour: float
    """The score that gives its colour."""
    mark: str
    """The text beside it."""


@dataclass(frozen=True)
class Panel:
    """Axes with the points of one line."""

    axes: Any
    points: Sequence[Point]


def plane(exhibit: Plane, subjects: Sequence[Subject]) -> Drawing:
    """Draw a panel for each pair of `panels` and `lines`, since terms of different losses have different scales.

    A row without a line lacks the x score, and is drawn as a horizontal dotted line at its y score.
    """
    names, lines = panels(subjects, exhibit.panels), values_at(subjects, exhibit.lines)
    figure = blank(height_pixels=max(1, len(names)) * PANEL_PIXELS)
    records, absent, drawn = list[Record](), list[str](), list[Panel]()
    for number, (name, line) in enumerate((name, line) for name in names for line in lines):
        axes = figure.add_subplot(len(names), len(lines), number + 1)
        shown = [subject for subject in subjects if not subject.floor and in_panel(subject, exhibit.panels, name)]
        points = []
        for subject in (subject for subject in shown if subject.row.at.get(exhibit.lines) == line):
            means = _means(exhibit, subject)
            records.append({"panel": name, "line": line, "row": subject.row.label, **means})
            x, y, colour = means.values()
            if x is None or y is None or colour is None:
                absent.append(subject.row.label)
            else:
                points.append(Point(x, y, colour, subject.row.mark or subject.row.label))
        for subject in (subject for subject in shown if exhibit.lines not in subject.row.at):
            means = _means(exhibit, subject)
            if line == lines[0]:
                records.append({"panel": name, "line": "across", "row": subject.row.label, **means})
            if means[exhibit.y] is not None:
                axes.axhline(means[exhibit.y], color=INK, linestyle=":", linewidth=1.0)
        drawn.append(Panel(axes, points))
        _frame(drawn[-1], exhibit, f"{name}, {line}", first=line == lines[0], last=name == names[-1])
    _coloured(figure, drawn, measure(exhibit.colour).axis)
    return Drawing(figure, records, absent=absent)


def _means(exhibit: Plane, subject: Subject) -> dict[str, float | None]:
    estimates = {score: subject.estimate(score) for score in (exhibit.x, exhibit.y, exhibit.colour)}
    return {score: None if estimate is None else round(estimate.mean, 6) for score, estimate in estimates.items()}


def _frame(panel: Panel, exhibit: Plane, title: str, *, first: bool, last: bool) -> None:
    """Give a panel its title, a y label in the first column, and an x label in the last row."""
    axes = panel.axes
    frame(axes, title=title if panel.points else f"{title}: {ABSENT}", x=measure(exhibit.x).axis if last else "",
          y=measure(exhibit.y).axis if first else "")  # fmt: skip
    axes.tick_params(labelsize=SMALL_POINTS)
    axes.locator_params(axis="x", nbins=5)
    if not panel.points:
        axes.set_xticks([])
        axes.set_yticks([])


def _coloured(figure: Any, drawn: Sequence[Panel], label: str) -> None:
    """Draw the points of all panels with one colour scale, which is readable in grey too."""
    colours = [point.colour for panel in drawn for point in panel.points]
    scattered = None
    for axes, points in ((panel.axes, panel.points) for panel in drawn if panel.points):
        xs, ys = [point.x for point in points], [point.y for point in points]
        axes.plot(xs, ys, color=FAINT, linewidth=1.0, zorder=1)
        scattered = axes.scatter(xs, ys, c=[point.colour for point in points], cmap="cividis", vmin=min(colours),
                                 vmax=max(colours), s=45, edgecolors=INK, linewidths=0.6, zorder=2)  # fmt: skip
        for point in points:
            axes.annotate(point.mark, (point.x, point.y), textcoords="offset points", xytext=(6, 4),
                          fontsize=SMALL_POINTS, color=INK)  # fmt: skip
        axes.margins(0.18)
    if scattered is not None:
        bar = figure.colorbar(scattered, ax=[panel.axes for panel in drawn], shrink=0.8, pad=0.01)
        bar.set_label(label, fontsize=LABEL_POINTS, color=INK)
