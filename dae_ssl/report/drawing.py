"""How everything is drawn: colours, axes, pictures. Without pyplot, so nothing is shared between two drawings."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dae_ssl.report.tables import Record

Image = npt.NDArray[np.uint8]
Curve = Sequence[tuple[int, float]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Of Okabe and Ito's palette, told apart by the colour-blind; `STYLES` and `MARKERS` tell them apart in print."""
STYLES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
ABSENT = "not yet measured"
INK, FAINT, MISSING = "#24292f", "#d8dee4", "#8a4b00"
WIDTH_PIXELS = 1000
"""Of a drawing on the page; in a PNG there are half as many again."""


@dataclass(frozen=True)
class Drawing:
    """A figure of an experiment, the numbers in it, and what has to be said beside it."""

    figure: Any
    """Of matplotlib; None where there is nothing to draw yet."""
    records: Sequence[Record] = ()
    notes: Sequence[str] = ()
    absent: Sequence[str] = ()
    """What is not in it, as it was not measured."""


def blank(*, height_pixels: float) -> Any:
    """Return an empty figure as wide as the page."""
    figure = Figure(figsize=(WIDTH_PIXELS / 100, height_pixels / 100), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """Return a figure as a PNG; equal drawings are equal bytes."""
    content = io.BytesIO()
    # More pixels than it is shown with, for sharp print and screens; no version, so that equal drawings are equal.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def svg(figure: Any) -> bytes:
    """Return a figure as an SVG that needs no font; equal drawings are equal bytes."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "dae_ssl", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def line(axes: Any, curve: Curve, colour: str, *, style: str = "-", label: str = "", width: float = 1.6) -> None:
    """Draw a curve, with its points where there are few."""
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    marker = "o" if len(curve) <= 12 else ""
    axes.plot(steps, values, style, color=colour, label=label, linewidth=width, marker=marker, markersize=4)


def dress(axes: Any, *, title: str, x: str, y: str) -> None:
    """Give axes over epochs, from 0 to the last that is drawn, their title and labels."""
    last_x = max(line.get_xdata()[-1] for line in axes.get_lines())
    frame(axes, title=title, x=x, y=y)
    axes.set_xlim(0, last_x + max(0.5, 0.03 * last_x))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def frame(axes: Any, *, title: str, x: str, y: str) -> None:
    """Give axes their title and labels, a light grid, and no frame."""
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9.5, labelcolor=INK, color=FAINT)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def legend(figure: Any, axes: Sequence[Any]) -> None:
    """Write one legend for all panels, each name once, above them."""
    named: dict[str, Any] = {}
    for own in axes:
        for handle, name in zip(*own.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    named |= {name: named.pop(name) for name in [ABSENT] if name in named}  # at the end
    if named:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=min(7, len(named)), fontsize=10,
                      frameon=False, labelcolor=INK)  # fmt: skip


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return values, each once, in their order."""
    return list(dict.fromkeys(values))


def mosaic(rows: Sequence[Sequence[Image]], *, row_names: Sequence[str], column_names: Sequence[str]) -> bytes:
    """Draw equally large images in rows and columns and return a PNG; one image, quicker than an axes for each."""
    return png(mosaic_figure(rows, row_names=row_names, column_names=column_names))


def mosaic_figure(rows: Sequence[Sequence[Image]], *, row_names: Sequence[str], column_names: Sequence[str]) -> Any:
    """Return the figure that `mosaic` draws."""
    side, columns, gap = rows[0][0].shape[0], len(rows[0]), 2
    pitch = side + gap
    whole = np.full((len(rows) * pitch - gap, columns * pitch - gap, 3), 255, np.uint8)
    for i, images in enumerate(rows):
        for j, image in enumerate(images):
            whole[i * pitch : i * pitch + side, j * pitch : j * pitch + side] = image
    longest = max((len(part) for name in row_names for part in name.split("\n")), default=0)
    names_pixels, head_pixels = max(135, 8 * longest), 45 if column_names else 5
    scale = min((WIDTH_PIXELS - names_pixels) / whole.shape[1], 2.75)
    width, height = whole.shape[1] * scale, whole.shape[0] * scale
    figure = blank(height_pixels=height + head_pixels + 5)
    figure.set_layout_engine("none")
    total = height + head_pixels + 5
    axes = figure.add_axes((names_pixels / WIDTH_PIXELS, 5 / total, width / WIDTH_PIXELS, height / total))
    axes.imshow(whole, interpolation="nearest", aspect="auto")
    middles = [number * pitch + side / 2 - 0.5 for number in range(max(len(rows), columns))]
    axes.set_yticks(middles[: len(rows)], row_names, fontsize=10, color=INK)
    axes.set_xticks(middles[: len(column_names)], column_names, fontsize=10, color=INK)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
