"""One figure against another, coloured by a third."""

from collections.abc import Sequence
from typing import Any

from dae_ssl.experiments.form import Plane
from dae_ssl.report.drawing import FAINT, INK, Drawing, blank, distinct, frame
from dae_ssl.report.measures import measure
from dae_ssl.report.subjects import Subject
from dae_ssl.report.tables import Record

Point = tuple[float, float, float, str]
"""Its place, its colour's value, and what is written beside it."""


def plane(exhibit: Plane, subjects: Sequence[Subject]) -> Drawing:
    """Draw a panel for each of `panels` and `lines`, since terms of different losses have different scales.

    A row of a panel that belongs to no line, and so lacks one of the figures, is a dotted line at the other.
    """
    panels = distinct(one.at.get(exhibit.panels or "") for one in subjects if not one.floor)
    lines = distinct(one.at[exhibit.lines] for one in subjects if exhibit.lines in one.at)
    figure = blank(height_pixels=max(1, len(panels)) * 330)
    records, absent, drawn = list[Record](), list[str](), list[tuple[Any, list[Point]]]()
    for place, (panel, name) in enumerate((panel, name) for panel in panels for name in lines):
        axes = figure.add_subplot(len(panels), len(lines), place + 1)
        of_panel = [one for one in subjects if not one.floor and one.at.get(exhibit.panels or "") == panel]
        points = []
        for one in (one for one in of_panel if one.at.get(exhibit.lines) == name):
            told = _told(exhibit, one)
            records.append({"panel": panel, "line": name, "row": one.label, **told})
            x, y, colour = told.values()
            if x is None or y is None or colour is None:
                absent.append(one.label)
            else:
                points.append((x, y, colour, one.mark or one.label))
        for one in (one for one in of_panel if exhibit.lines not in one.at):
            told = _told(exhibit, one)
            if name == lines[0]:
                records.append({"panel": panel, "line": "across", "row": one.label, **told})
            if told[exhibit.y] is not None:
                axes.axhline(told[exhibit.y], color=INK, linestyle=":", linewidth=1.0)
        _frame(axes, exhibit, f"{panel}, {name}", points, first=name == lines[0], last=panel == panels[-1])
        drawn.append((axes, points))
    _coloured(figure, drawn, measure(exhibit.colour).axis)
    return Drawing(figure, records, absent=absent)


def _told(exhibit: Plane, one: Subject) -> dict[str, float | None]:
    means = {name: one.estimate(name) for name in (exhibit.x, exhibit.y, exhibit.colour)}
    return {name: None if found is None else round(found.mean, 6) for name, found in means.items()}


def _frame(axes: Any, exhibit: Plane, title: str, points: Sequence[Point], *, first: bool, last: bool) -> None:
    frame(axes, title=title if points else f"{title}: not yet measured", x=measure(exhibit.x).axis if last else "",
          y=measure(exhibit.y).axis if first else "")  # fmt: skip
    axes.tick_params(labelsize=8.5)
    axes.locator_params(axis="x", nbins=5)
    if not points:
        axes.set_xticks([])
        axes.set_yticks([])


def _coloured(figure: Any, drawn: Sequence[tuple[Any, list[Point]]], label: str) -> None:
    """Draw points in all axes on one scale of colours, which is told apart in grey as well."""
    colours = [colour for _, points in drawn for _, _, colour, _ in points]
    scattered = None
    for axes, points in drawn:
        if points:
            xs, ys, values, names = zip(*points, strict=True)
            axes.plot(xs, ys, color=FAINT, linewidth=1.0, zorder=1)
            scattered = axes.scatter(xs, ys, c=values, cmap="cividis", vmin=min(colours), vmax=max(colours), s=45,
                                     edgecolors=INK, linewidths=0.6, zorder=2)  # fmt: skip
            for x, y, name in zip(xs, ys, names, strict=True):
                axes.annotate(name, (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8.5, color=INK)
            axes.margins(0.18)
    if scattered is not None:
        bar = figure.colorbar(scattered, ax=[axes for axes, _ in drawn], shrink=0.8, pad=0.01)
        bar.set_label(label, fontsize=10, color=INK)
