"""Figures against a number: a line for each kind of row, and the probe's own curves."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dae_ssl.experiments.form import Curves
from dae_ssl.report.comparison import in_columns
from dae_ssl.report.drawing import (
    ABSENT,
    COLOURS,
    INK,
    MARKERS,
    MISSING,
    STYLES,
    Drawing,
    blank,
    distinct,
    frame,
    legend,
)
from dae_ssl.report.measures import measure
from dae_ssl.report.significance import Estimate
from dae_ssl.report.subjects import Subject, paired
from dae_ssl.report.tables import Record

PANEL_PIXELS = 400
BARS = "Bars: 95 % intervals, over seeds, or over test images where there is one seed of an accuracy."
RAW_PIXELS = "Raw pixels, far below, are in the numbers only."


def curves(exhibit: Curves, subjects: Sequence[Subject], *, published: bool) -> Drawing:
    """Draw a figure against a number, with intervals; crosses at the foot stand for what was not measured."""
    panels = distinct(one.at.get(exhibit.panels or "") for one in subjects if not one.floor)
    figure = blank(height_pixels=PANEL_PIXELS)
    axes = [figure.add_subplot(1, len(panels), place) for place in range(1, len(panels) + 1)]
    records, absent = list[Record](), list[str]()
    across = exhibit.relative_to is None and any(one.floor for one in subjects)
    for panel, own in zip(panels, axes, strict=True):
        shown = [one for one in subjects if one.floor or one.at.get(exhibit.panels or "") == panel]
        for line, one, estimate in _panel(own, exhibit, shown):
            records.append({"panel": panel, "line": line, exhibit.x: one.at.get(exhibit.x), "row": one.label,
                            **in_columns(estimate)})  # fmt: skip
            absent += [one.label] if estimate is None else []
        if published and exhibit.score == "test_accuracy" and exhibit.relative_to is None:
            _published(own, exhibit, shown)
        _dress(own, exhibit, title="" if panel is None else str(panel), first=own is axes[0])
    _share_height(axes)
    legend(figure, axes)
    return Drawing(figure, records, (BARS, *([RAW_PIXELS] if across else [])), absent)


def _panel(axes: Any, exhibit: Curves, shown: Sequence[Subject]) -> Iterator[tuple[str, Subject, Estimate | None]]:
    """Draw the lines of a panel, then what lies across; yield what each row is drawn as."""
    names = distinct(one.at[exhibit.lines] for one in shown if exhibit.lines in one.at)
    for number, name in enumerate(names):
        of_line = [one for one in shown if one.at.get(exhibit.lines) == name and exhibit.x in one.at]
        points = [(float(one.at[exhibit.x]), _ordinate(exhibit, one, of_line)) for one in of_line]
        _curve(axes, points, number, str(name))
        _mark_missing(axes, [x for x, estimate in points if estimate is None], number)
        for one, (_, estimate) in zip(of_line, points, strict=True):
            yield str(name), one, estimate
    for one in shown:
        if exhibit.relative_to is None and exhibit.x not in one.at:
            yield "across", one, _across(axes, one, exhibit.score)


def _dress(axes: Any, exhibit: Curves, *, title: str, first: bool) -> None:
    told = measure(exhibit.score)
    label = told.axis if exhibit.relative_to is None else f"change of {told.title} (points)"
    frame(axes, title=title, x=exhibit.x_label, y=label if first else "")
    if exhibit.logarithmic:
        axes.set_xscale("log")
    if exhibit.relative_to is not None:
        axes.axhline(0, color=INK, linewidth=0.8)


def _ordinate(exhibit: Curves, one: Subject, of_line: Sequence[Subject]) -> Estimate | None:
    """Return what is drawn of a row: its figure, or its change relative to the line's own at a place."""
    if exhibit.relative_to is None:
        return one.estimate(exhibit.score)
    start = next((other for other in of_line if other.at[exhibit.x] == exhibit.relative_to), None)
    if start is None:
        return None
    if one is start:
        own = one.estimate(exhibit.score)
        return None if own is None else Estimate(mean=0.0, seeds=own.seeds)
    return paired({one.label: 1.0, start.label: -1.0}, {one.label: one, start.label: start}, exhibit.score)


def _curve(axes: Any, points: Sequence[tuple[float, Estimate | None]], number: int, name: str) -> None:
    """Draw the measured points of a line with their intervals."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    known = [(x, estimate) for x, estimate in sorted(points, key=lambda point: point[0]) if estimate is not None]
    xs, means = [x for x, _ in known], [estimate.mean for _, estimate in known]
    axes.plot(xs, means, color=colour, marker=marker, markersize=5, linewidth=1.6, linestyle=STYLES[number % 4],
              label=name)  # fmt: skip
    for x, estimate in known:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([x, x], [estimate.low, estimate.high], color=colour, linewidth=1.0, alpha=0.7)


def _mark_missing(axes: Any, gaps: Sequence[float], number: int) -> None:
    """Draw a cross at the foot of the axes for every point of a line that was not measured, a row for each line."""
    if gaps:
        heights = [0.03 + 0.035 * number] * len(gaps)
        axes.plot(gaps, heights, transform=axes.get_xaxis_transform(), color=COLOURS[number % len(COLOURS)],
                  marker="x", markersize=5, linestyle="none", clip_on=False, label=ABSENT)  # fmt: skip


def _across(axes: Any, one: Subject, name: str) -> Estimate | None:
    """Draw a row that has no place on the axis, or a floor, as a dotted line across; raw pixels only in numbers."""
    estimate = one.estimate(name)
    if estimate is not None and not (one.floor and one.label.startswith("raw pixels")):
        floor = one.floor
        axes.axhline(estimate.mean, color=MISSING if floor else INK, linestyle=":" if not floor else "-.",
                     linewidth=1.2, label=one.label)  # fmt: skip
    return estimate


def _published(axes: Any, exhibit: Curves, subjects: Sequence[Subject]) -> None:
    known = [(float(one.at[exhibit.x]), one.published) for one in subjects if one.published and exhibit.x in one.at]
    if known:
        axes.plot(*zip(*known, strict=True), linestyle="none", marker="*", markersize=11, markerfacecolor="none",
                  color=INK, label="published")  # fmt: skip


def _share_height(axes: Sequence[Any]) -> None:
    """Give panels the same scale."""
    limits = [own.get_ylim() for own in axes]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    for own in axes:
        own.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))  # room for lines across


def probe_curves(subjects: Sequence[Subject]) -> Drawing:
    """Draw validation accuracy by probe epoch, each row's mean over seeds and how far they reach."""
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
            records.append({"row": one.label, "probe_epoch": None, "mean": None, "seeds": 0})
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
