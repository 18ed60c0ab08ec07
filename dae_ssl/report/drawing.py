"""How figures look, decided once: colours, pens, letters, axes, legends; and what they are written as.

Without pyplot, so that nothing is shared between two figures.
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
"""From Okabe and Ito's palette, told apart by the colour-blind; `STYLES` and `MARKERS` tell them apart in print."""
STYLES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, FAINT, MISSING = "#24292f", "#d8dee4", "#8a4b00"
TITLE_POINTS, LABEL_POINTS, TICK_POINTS, SMALL_POINTS = 11, 10, 9.5, 8.5
"""Heights of letters: above axes, beside them, at their ticks, and where there is little room."""
WIDTH_PIXELS = 1000
"""Width of a figure on the page; in a PNG there are half as many pixels again."""
ABSENT = "not yet measured"
VALIDATION_ACCURACY = "validation accuracy, top-1 (%)"


@dataclass(frozen=True)
class Drawing:
    """A figure of an experiment, the numbers in it, and what has to be said beside it."""

    figure: Any
    """Matplotlib's; None where there is nothing to draw yet."""
    records: Sequence[Record] = ()
    notes: Sequence[str] = ()
    absent: Sequence[str] = ()
    """What is not in it, as it was not measured."""


@dataclass(frozen=True)
class Pen:
    """What tells one line of a figure from the others."""

    colour: str
    style: Any
    marker: str


def pen(number: int) -> Pen:
    """Return the pen of a figure's line number `number`, counted from 0."""
    return Pen(COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)], MARKERS[number % len(MARKERS)])


# ---------------------------------------------------------------------------------- figures, and their files


def blank(*, height_pixels: float) -> Any:
    """Return an empty figure as wide as the page."""
    figure = Figure(figsize=(WIDTH_PIXELS / 100, height_pixels / 100), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """Return a figure as a PNG; equal figures are equal bytes."""
    content = io.BytesIO()
    # More pixels than it is shown with, for sharp print and screens; no version, so that equal figures are equal.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def svg(figure: Any) -> bytes:
    """Return a figure as an SVG that needs no font; equal figures are equal bytes."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "dae_ssl", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


# ---------------------------------------------------------------------------------- what stands in them


def line(axes: Any, curve: Curve, colour: str, *, style: Any = "-", label: str = "", width: float = 1.6) -> None:
    """Draw a curve, with its points where there are few."""
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
    """Give axes over epochs the same, from 0 to the last epoch that is drawn."""
    last = max(drawn.get_xdata()[-1] for drawn in axes.get_lines())
    frame(axes, title=title, x=x, y=y)
    axes.set_xlim(0, last + max(0.5, 0.03 * last))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def legend_above(figure: Any, panels: Sequence[Any]) -> None:
    """Write one legend for all panels, each name once, above them, in as many columns as are not cut."""
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
