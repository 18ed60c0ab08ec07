"""Set the style of all figures (colours, pens, fonts, axes, legends), and write figures as PNG and SVG.

pyplot is not used, so that figures share no state.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dae_ssl.report.findings import Curve
from dae_ssl.report.table import Record

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito's palette for colour-blind readers; `STYLES` and `MARKERS` distinguish lines in black and white."""
STYLES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, FAINT, MISSING = "#24292f", "#d8dee4", "#8a4b00"
TITLE_POINTS, LABEL_POINTS, TICK_POINTS, SMALL_POINTS = 11, 10, 9.5, 8.5
"""The font sizes of titles, labels, ticks, and text where there is little room."""
WIDTH_PIXELS = 1000
"""The width of a figure on the page; a PNG has 1.5 times as many pixels."""
ABSENT = "not yet measured"
VALIDATION_ACCURACY = "validation accuracy, top-1 (%)"


@dataclass(frozen=True)
class Drawing:
    """A figure of an experiment, its numbers, and the notes below it."""

    figure: Any
    """A figure of Matplotlib; None if there is nothing to draw yet."""
    records: Sequence[Record] = ()
    notes: Sequence[str] = ()
    absent: Sequence[str] = ()
    """The labels of what is missing in it, since it has not been measured."""


@dataclass(frozen=True)
class Pen:
    """The colour, line style and marker that distinguish one line of a figure from the others."""

    colour: str
    style: Any
    marker: str


def pen(number: int) -> Pen:
    """Return the pen of a figure's line with this number, counted from 0."""
    return Pen(COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)], MARKERS[number % len(MARKERS)])


# ---------------------------------------------------------------------------------- figures, and their files


def blank(*, height_pixels: float) -> Any:
    """Return an empty figure as wide as the page."""
    figure = Figure(figsize=(WIDTH_PIXELS / 100, height_pixels / 100), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """Return a figure as a PNG; equal figures give equal bytes."""
    content = io.BytesIO()
    # More pixels than the page shows, for print and sharp screens; no version, so that equal figures give equal bytes.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def svg(figure: Any) -> bytes:
    """Return a figure as an SVG that needs no font; equal figures give equal bytes."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "dae_ssl", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


# ---------------------------------------------------------------------------------- lines, axes and legends


def line(axes: Any, curve: Curve, colour: str, *, style: Any = "-", label: str = "", width: float = 1.6) -> None:
    """Draw a curve, with a marker at each point if there are few points."""
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    marker = "o" if len(curve) <= 12 else ""
    axes.plot(steps, values, linestyle=style, color=colour, label=label, linewidth=width, marker=marker, markersize=4)


def frame(axes: Any, *, title: str, x: str, y: str) -> None:
    """Give axes their title and labels, a light grid, and no frame."""
    axes.set_title(title, fontsize=TITLE_POINTS, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=LABEL_POINTS, color=INK)
    axes.set_ylabel(y, fontsize=LABEL_POINTS, color=INK)
    axes.tick_params(labelsize=TICK_POINTS, labelcolor=INK, color=FAINT)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def frame_epochs(axes: Any, *, title: str, x: str, y: str) -> None:
    """Give axes over epochs the same style, from 0 to the last epoch that is drawn."""
    last = max(drawn.get_xdata()[-1] for drawn in axes.get_lines())
    frame(axes, title=title, x=x, y=y)
    axes.set_xlim(0, last + max(0.5, 0.03 * last))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def legend_above(figure: Any, panels: Sequence[Any]) -> None:
    """Write one legend above all panels, with each name once, in as many columns as fit."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    named |= {name: named.pop(name) for name in [ABSENT] if name in named}  # at the end
    for columns in range(len(named), 0, -1):
        legend = figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns,
                               fontsize=LABEL_POINTS, frameon=False, labelcolor=INK)  # fmt: skip
        if legend.get_window_extent().width <= figure.bbox.width:
            return
        if columns > 1:
            legend.remove()
