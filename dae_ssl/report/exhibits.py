"""Figures of an experiment: what its file asks for, with what was measured; what is missing is drawn as missing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dae_ssl.experiments import Section
from dae_ssl.experiments.form import Curves, Effects, Exhibit, Pictures, Plane, ProbeCurves, Strengths
from dae_ssl.report import figures
from dae_ssl.report.comparison import in_columns
from dae_ssl.report.drawing import (
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    MISSING,
    STYLES,
    Image,
    blank,
    frame,
    mosaic_figure,
)  # fmt: skip
from dae_ssl.report.measures import measure
from dae_ssl.report.significance import Estimate
from dae_ssl.report.subjects import Subject, paired
from dae_ssl.report.tables import Record

PANEL_PIXELS = 400


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers in it, and what has to be said beside it."""

    figure: Any
    """Of matplotlib; None where there is nothing to draw yet."""
    records: Sequence[Record] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    absent: Sequence[str] = ()
    """What is not in it, as it was not measured."""


def draw(exhibit: Exhibit, section: Section, subjects: Sequence[Subject]) -> Drawing:
    """Draw one exhibit of a section."""
    kinds: dict[type[Exhibit], Callable[[Any, Section, Sequence[Subject]], Drawing]] = {
        Curves: _curves, ProbeCurves: _probe_curves, Plane: _plane, Pictures: _pictures, Strengths: _strengths,
        Effects: _effects,
    }  # fmt: skip
    return kinds[type(exhibit)](exhibit, section, subjects)


# ---------------------------------------------------------------------------------- against a number


def _curves(exhibit: Curves, _section: Section, subjects: Sequence[Subject]) -> Drawing:
    panels = _distinct(one.at.get(exhibit.panels or "") for one in subjects if not one.floor)
    lines = _distinct(one.at[exhibit.lines] for one in subjects if exhibit.lines in one.at)
    figure = blank(height_pixels=PANEL_PIXELS)
    axes = [figure.add_subplot(1, len(panels), place) for place in range(1, len(panels) + 1)]
    records, absent = list[Record](), list[str]()
    for panel, own in zip(panels, axes, strict=True):
        shown = [one for one in subjects if one.floor or one.at.get(exhibit.panels or "") == panel]
        for number, name in enumerate(lines):
            of_line = [one for one in shown if one.at.get(exhibit.lines) == name and exhibit.x in one.at]
            points = [(float(one.at[exhibit.x]), _ordinate(exhibit, one, of_line), one) for one in of_line]
            _curve(own, points, number, str(name))
            for x, estimate, one in points:
                records.append({"panel": panel, "line": name, exhibit.x: x, "row": one.label, **in_columns(estimate)})
                absent += [one.label] if estimate is None else []
        across = [one for one in shown if exhibit.relative_to is None and exhibit.x not in one.at]
        for one in across:
            estimate = _across(own, one, exhibit.figure)
            records.append({"panel": panel, "line": one.label, **in_columns(estimate)})
            absent += [one.label] if estimate is None else []
        _published(own, exhibit, shown)
        unit = measure(exhibit.figure)
        change = f"change of {unit.title} (points)" if exhibit.relative_to is not None else unit.axis
        frame(own, title="" if panel is None else str(panel), x=exhibit.x_label, y=change if own is axes[0] else "")
        if exhibit.logarithmic:
            own.set_xscale("log")
        if exhibit.relative_to is not None:
            own.axhline(0, color=INK, linewidth=0.8)
        _mark_missing(own)
    _share_height(axes)
    _legend(figure, axes)
    return Drawing(figure, records, absent=absent)


def _ordinate(exhibit: Curves, one: Subject, of_line: Sequence[Subject]) -> Estimate | None:
    """Return what is drawn of a row: its figure, or its change relative to the line's own at a place."""
    if exhibit.relative_to is None:
        return one.estimate(exhibit.figure)
    start = next((other for other in of_line if other.at[exhibit.x] == exhibit.relative_to), None)
    if start is None:
        return None
    if one is start:
        own = one.estimate(exhibit.figure)
        return None if own is None else Estimate(mean=0.0, seeds=own.seeds)
    return paired({one.label: 1.0, start.label: -1.0}, {one.label: one, start.label: start}, exhibit.figure)


def _curve(axes: Any, points: Sequence[tuple[float, Estimate | None, Subject]], number: int, name: str) -> None:
    """Draw the measured points of a line with their intervals, and remember those that are missing."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    known = [(x, estimate) for x, estimate, _ in sorted(points, key=lambda point: point[0]) if estimate is not None]
    xs, means = [x for x, _ in known], [estimate.mean for _, estimate in known]
    axes.plot(xs, means, color=colour, marker=marker, markersize=5, linewidth=1.6, linestyle=STYLES[number % 4],
              label=name)  # fmt: skip
    for x, estimate in known:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([x, x], [estimate.low, estimate.high], color=colour, linewidth=1.0, alpha=0.7)
    for x in (x for x, estimate, _ in points if estimate is None):
        axes.missing = [*getattr(axes, "missing", []), (x, number, colour)]


def _mark_missing(axes: Any) -> None:
    """Draw a cross at the foot of the axes for every point that was not measured, a row of them for each line."""
    for count, (x, number, colour) in enumerate(getattr(axes, "missing", [])):
        axes.plot([x], [0.03 + 0.035 * number], transform=axes.get_xaxis_transform(), color=colour, marker="x",
                  markersize=5, linestyle="none", clip_on=False,
                  label="not yet measured" if count == 0 else "")  # fmt: skip


def _across(axes: Any, one: Subject, name: str) -> Estimate | None:
    """Draw a row that has no place on the axis, or a floor, as a dotted line across; raw pixels only in numbers."""
    estimate = one.estimate(name)
    if estimate is not None and one.label != "raw pixels":
        floor = one.floor
        axes.axhline(estimate.mean, color=MISSING if floor else INK, linestyle=":" if not floor else "-.",
                     linewidth=1.2, label=one.label if floor else "no embedding loss")  # fmt: skip
    return estimate


def _published(axes: Any, exhibit: Curves, subjects: Sequence[Subject]) -> None:
    if exhibit.figure != "test_accuracy" or exhibit.relative_to is not None:
        return
    known = [(float(one.at[exhibit.x]), one.published) for one in subjects if one.published and exhibit.x in one.at]
    if known:
        axes.plot(*zip(*known, strict=True), linestyle="none", marker="*", markersize=11, markerfacecolor="none",
                  color=INK, label="published")  # fmt: skip


def _share_height(axes: Sequence[Any]) -> None:
    """Give panels the same scale."""
    limits = [own.get_ylim() for own in axes]
    for own in axes:
        own.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """Write one legend for all panels, each name once, above them."""
    named: dict[str, Any] = {}
    for own in axes:
        for handle, name in zip(*own.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    if named:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=min(6, len(named)), fontsize=10,
                      frameon=False, labelcolor=INK)  # fmt: skip


# ---------------------------------------------------------------------------------- by probe epoch


def _probe_curves(_exhibit: ProbeCurves, _section: Section, subjects: Sequence[Subject]) -> Drawing:
    figure = blank(height_pixels=PANEL_PIXELS)
    axes = figure.add_subplot()
    records, absent = list[Record](), list[str]()
    for number, one in enumerate(subjects):
        curves = [next(iter(found.validation_curves().values()), []) for found in one.found]
        curves = [curve for curve in curves if curve]
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        if not curves:
            axes.plot([], [], color=colour, linestyle=style, label=f"{one.label}: not yet measured")
            absent.append(one.label)
            continue
        length = min(map(len, curves))
        epochs = [step for step, _ in curves[0][:length]]
        shares = 100 * np.array([[share for _, share in curve[:length]] for curve in curves])
        axes.plot(epochs, shares.mean(0), color=colour, linestyle=style, linewidth=1.8, label=one.label)
        if len(curves) > 1:
            axes.fill_between(epochs, shares.min(0), shares.max(0), color=colour, alpha=0.15, linewidth=0)
        records += [{"row": one.label, "probe_epoch": epoch, "mean": round(float(mean), 4), "seeds": len(curves)}
                    for epoch, mean in zip(epochs, shares.mean(0), strict=True)]  # fmt: skip
    frame(axes, title="", x="probe epoch", y="validation accuracy, top-1 (%)")
    axes.legend(fontsize=10, frameon=False, labelcolor=INK, loc="lower right")
    return Drawing(figure, records, ("Means over seeds; shaded from the lowest to the highest seed.",), absent)


# ---------------------------------------------------------------------------------- one figure against another


def _plane(exhibit: Plane, _section: Section, subjects: Sequence[Subject]) -> Drawing:
    panels = _distinct(one.at.get(exhibit.panels or "") for one in subjects if not one.floor)
    lines = _distinct(one.at[exhibit.lines] for one in subjects if exhibit.lines in one.at)
    figure = blank(height_pixels=max(1, len(panels)) * 330)
    records, absent, drawn = list[Record](), list[str](), list[tuple[Any, list[tuple[float, float, float, str]]]]()
    for i, panel in enumerate(panels):
        for j, name in enumerate(lines):
            axes = figure.add_subplot(len(panels), len(lines), i * len(lines) + j + 1)
            own = [one for one in subjects if one.at.get(exhibit.panels or "") == panel
                   and one.at.get(exhibit.lines) == name]  # fmt: skip
            points = []
            for one in own:
                means = {figure: one.estimate(figure) for figure in (exhibit.x, exhibit.y, exhibit.colour)}
                told = {figure: None if found is None else round(found.mean, 6) for figure, found in means.items()}
                records.append({"panel": panel, "line": name, "row": one.label, **told})
                x, y, colour = told.values()
                if x is None or y is None or colour is None:
                    absent.append(one.label)
                else:
                    points.append((x, y, colour, one.label.rpartition(" ")[2]))
            title = f"{panel}, {name}" + ("" if points else ": not yet measured")
            frame(axes, title=title, x=measure(exhibit.x).axis if i == len(panels) - 1 else "",
                  y=measure(exhibit.y).axis if j == 0 else "")  # fmt: skip
            axes.tick_params(labelsize=8.5)
            axes.locator_params(axis="x", nbins=5)
            if not points:
                axes.set_xticks([])
                axes.set_yticks([])
            drawn.append((axes, points))
    _coloured(figure, drawn, measure(exhibit.colour).axis)
    return Drawing(figure, records, absent=absent)


def _coloured(figure: Any, drawn: Sequence[tuple[Any, list[tuple[float, float, float, str]]]], label: str) -> None:
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


# ---------------------------------------------------------------------------------- pictures


def _pictures(_exhibit: Pictures, section: Section, subjects: Sequence[Subject]) -> Drawing:
    shown = {one.label: _last_pictures(one) for one in subjects if not one.floor}
    absent = [label for label, pictures in shown.items() if pictures is None]
    known = {label: pictures for label, pictures in shown.items() if pictures is not None}
    if not known:
        return Drawing(None, absent=absent)
    first = next(iter(known.values()))
    rows, names = [list(first["clean"])], ["clean"]
    for view in (1, 2):
        if f"view{view}" in first:
            rows.append(list(first[f"view{view}"]))
            names.append(f"view {view}")
        for label, pictures in known.items():
            if f"reconstruction{view}" in pictures:
                rows.append(list(pictures[f"reconstruction{view}"]))
                names.append(label.partition(",")[0])
    note = f"{section.base.data.pretrain} test images; below each view what the networks of the first seed make of it."
    return Drawing(mosaic_figure(rows, row_names=names, column_names=[]), notes=(note,), absent=absent)


def _last_pictures(one: Subject) -> Mapping[str, Image] | None:
    found = next((found.pictures for found in one.found if found.pictures), None)
    return None if not found else found[max(found)]


def _strengths(_exhibit: Strengths, section: Section, subjects: Sequence[Subject]) -> Drawing:
    pictures = next((found for found in map(_last_pictures, subjects) if found is not None), None)
    if pictures is None:
        return Drawing(None, absent=["example pictures, which a pretraining keeps"])
    figure = figures.views_by_strength_figure(pictures["clean"], section.base)
    return Drawing(figure, notes=("Crop and flip of a view are the same at all strengths.",))


# ---------------------------------------------------------------------------------- effects of changes


def _effects(exhibit: Effects, _section: Section, subjects: Sequence[Subject]) -> Drawing:
    by_label = {one.label: one for one in subjects}
    groups = _distinct(one.at[exhibit.within] for one in subjects if exhibit.within in one.at)
    records, absent, entries = list[Record](), list[str](), list[tuple[str, Estimate | None, int]]()
    for number, group in enumerate(groups):
        of_group = [one for one in subjects if one.at.get(exhibit.within) == group]
        start = next(one for one in of_group if one.at[exhibit.of] == exhibit.start)
        for one in (one for one in of_group if one is not start):
            estimate = paired({one.label: 1.0, start.label: -1.0}, by_label, "test_accuracy")
            entries.append((f"{group}: {one.at[exhibit.of]}", estimate, number))
            records.append({exhibit.within: group, exhibit.of: one.at[exhibit.of], **in_columns(estimate),
                            "p": None if estimate is None else estimate.p})  # fmt: skip
            absent += [one.label] if estimate is None else []
    figure = blank(height_pixels=90 + 24 * len(entries))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, (_, estimate, number) in enumerate(entries):
        colour = COLOURS[number % len(COLOURS)]
        if estimate is None:
            axes.plot([0], [place], marker="x", color=colour, linestyle="none", label="not yet measured")
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.6)
        axes.plot([estimate.mean], [place], marker=MARKERS[number % len(MARKERS)], color=colour, linestyle="none")
    axes.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    axes.invert_yaxis()
    title = f"relative to {exhibit.start}, paired over test images and seeds, 95 % intervals"
    frame(axes, title=title, x="change of test accuracy (points)", y="")
    axes.yaxis.set_major_formatter(lambda value, _: entries[int(value)][0] if 0 <= value < len(entries) else "")
    _legend(figure, [axes])
    return Drawing(figure, records, absent=absent)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
