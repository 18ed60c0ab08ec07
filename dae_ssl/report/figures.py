"""Drawings: arrays and curves -> PNG. Without pyplot, so nothing is shared between two drawings."""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dae_ssl.config import Cell
from dae_ssl.training.views import draw, render

Image = npt.NDArray[np.uint8]
Curve = Sequence[tuple[int, float]]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Of Okabe and Ito's palette, told apart by the colour-blind."""
INK, FAINT = "#24292f", "#d8dee4"
WIDTH_PIXELS = 1000
"""Of a drawing on the page; in the file there are half as many again."""
JITTER_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Figure 9 of the study."""

TERMS = {
    "loss": ("Loss, total", "no unit"),
    "reconstruction": ("Reconstruction term", "no unit"),
    "embedding": ("Embedding term, unweighed", "no unit"),
    "learning_rate": ("Learning rate", "per Adam step"),
    "embedding_std": ("Embedding spread", "1 = even, 0 = collapsed"),
    "embedding_effective_rank": ("Rank of embeddings", "effective dimensions"),
    "representation_effective_rank": ("Rank of representations", "effective dimensions"),
    "images_per_second": ("Training speed", "images / second"),
}
"""Title and unit of a pretraining curve, in the order of the panels; other terms follow under their own names."""


def training_curves(curves: Mapping[str, Curve]) -> bytes:
    """Draw each logged term of pretraining by epoch, a panel each, as their scales differ; return a PNG."""
    order = [*(term for term in TERMS if term in curves), *sorted(curves.keys() - TERMS.keys() - {"epoch_seconds"})]
    columns = min(3, len(order))
    rows = math.ceil(len(order) / columns)
    figure = _figure(height_pixels=60 + 215 * rows)
    for place, term in enumerate(order, 1):
        axes = figure.add_subplot(rows, columns, place)
        title, unit = TERMS.get(term, (term.replace("_", " "), "as logged"))
        _line(axes, curves[term], COLOURS[0])
        _dress(axes, title=title, x="epoch", y=unit)
        if term not in ("loss", "reconstruction", "embedding"):
            axes.set_ylim(bottom=0)
    return _png(figure)


def validation_curves(subjects: Mapping[str, Mapping[float, Curve]]) -> bytes:
    """Draw validation accuracy by probe epoch; `subjects` maps words to curves by learning rate; return a PNG.

    Accuracies come as shares and are drawn in percent. A subject's first learning rate is drawn strong and named.
    """
    figure = _figure(height_pixels=430)
    axes = figure.add_subplot()
    styles = ("-", "--", ":", "-.")
    for number, (words, curves) in enumerate(subjects.items()):
        colour, style = COLOURS[number % len(COLOURS)], styles[number % len(styles)]
        for place, (rate, curve) in enumerate(curves.items()):
            percent = [(step, 100 * share) for step, share in curve]
            label = f"{words}, learning rate {rate:g}" if place == 0 else ""
            _line(axes, percent, colour, style=style, label=label, width=2.0 if place == 0 else 0.8)
    _dress(axes, title="", x="probe epoch", y="validation accuracy, top-1 (%)")
    axes.legend(facecolor="white", edgecolor="none", framealpha=0.85, fontsize=10, labelcolor=INK, loc="lower right")
    return _png(figure)


def reconstructions(pictures: Mapping[str, Image]) -> bytes:
    """Draw images in columns, and in rows what is seen of each, as Figure 5 of the study does; return a PNG.

    pictures: uint8 (n, side, side, 3) by name: clean, view1, view2, and reconstruction1, reconstruction2 if any.
    """
    names = {
        "clean": "clean",
        "view1": "view 1",
        "reconstruction1": "reconstruction 1",
        "view2": "view 2",
        "reconstruction2": "reconstruction 2",
    }
    rows = {words: list(pictures[name]) for name, words in names.items() if name in pictures}
    return _grid(list(rows.values()), row_names=list(rows), column_names=[])


def reconstructions_by_epoch(pictures: Mapping[int, Mapping[str, Image]], *, images: int = 3) -> bytes:
    """Draw how the reconstructions of the first few images change over the kept epochs; return a PNG.

    pictures: by epoch, those that `reconstructions` takes, with reconstructions.
    """
    last = pictures[max(pictures)]
    shown = range(min(images, len(last["clean"])))
    rows = [
        [last["clean"][i], last["view1"][i], *(pictures[epoch]["reconstruction1"][i] for epoch in pictures)]
        for i in shown
    ]
    columns = ["clean", "view 1", *(f"epoch {epoch}" for epoch in pictures)]
    return _grid(rows, row_names=[f"image {i + 1}" for i in shown], column_names=columns)


def views_by_strength(clean: Image, cell: Cell, *, images: int = 4) -> bytes:
    """Draw two views of the first few clean images at several jitter strengths, the cell's own too (Figure 8).

    clean: uint8 (n, side, side, 3). Crop and flip of a view are the same at every strength. Returns a PNG.
    """
    strengths = sorted({*JITTER_STRENGTHS, cell.views.jitter})
    chosen = clean[:images]
    views = {(strength, view): views_at(chosen, cell, strength, view) for strength in strengths for view in (1, 2)}
    rows, names = [], []
    for i, image in enumerate(chosen):
        for view in (1, 2):
            rows.append([image, *(views[strength, view][i] for strength in strengths)])
            names.append(f"image {i + 1}, view {view}")
    own = {cell.views.jitter: "\n(this cell)"}
    return _grid(rows, row_names=names, column_names=["clean", *(f"s = {s:g}{own.get(s, '')}" for s in strengths)])


def views_at(clean: Image, cell: Cell, strength: float, view: int) -> Image:
    """Return the views of clean images as the cell draws them, but for the jitter's strength; uint8 (n, s, s, 3)."""
    settings = dataclasses.replace(cell.views, jitter=strength)
    images = torch.from_numpy(clean).permute(0, 3, 1, 2).contiguous()
    side, indices = images.shape[-1], torch.arange(len(images))
    drawn = draw(settings, seed=cell.seed, epoch=0, indices=indices, view=view, size=side)
    seen = (render(images, drawn, settings) * 255).round().to(torch.uint8)
    return np.asarray(seen.permute(0, 2, 3, 1).numpy())


# ---------------------------------------------------------------------------------- how it is drawn


def _figure(*, height_pixels: float) -> Any:
    figure = Figure(figsize=(WIDTH_PIXELS / 100, height_pixels / 100), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    # More pixels than it is shown with, for sharp print and screens; no version, so that equal drawings are equal.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _line(axes: Any, curve: Curve, colour: str, *, style: str = "-", label: str = "", width: float = 1.6) -> None:
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    marker = "o" if len(curve) <= 12 else ""
    axes.plot(steps, values, style, color=colour, label=label, linewidth=width, marker=marker, markersize=4)


def _dress(axes: Any, *, title: str, x: str, y: str) -> None:
    last_x = max(line.get_xdata()[-1] for line in axes.get_lines())
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9.5, labelcolor=INK, color=FAINT)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0, last_x + max(0.5, 0.03 * last_x))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _grid(rows: Sequence[Sequence[Image]], *, row_names: Sequence[str], column_names: Sequence[str]) -> bytes:
    """Draw equally large images in rows and columns as one mosaic, which is quicker than an axes for each."""
    side, columns, gap = rows[0][0].shape[0], len(rows[0]), 2
    pitch = side + gap
    mosaic = np.full((len(rows) * pitch - gap, columns * pitch - gap, 3), 255, np.uint8)
    for i, images in enumerate(rows):
        for j, image in enumerate(images):
            mosaic[i * pitch : i * pitch + side, j * pitch : j * pitch + side] = image
    names_pixels, head_pixels = 135, 45 if column_names else 5
    scale = min((WIDTH_PIXELS - names_pixels) / mosaic.shape[1], 2.75)
    width, height = mosaic.shape[1] * scale, mosaic.shape[0] * scale
    figure = _figure(height_pixels=height + head_pixels + 5)
    figure.set_layout_engine("none")
    total = height + head_pixels + 5
    axes = figure.add_axes((names_pixels / WIDTH_PIXELS, 5 / total, width / WIDTH_PIXELS, height / total))
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    middles = [number * pitch + side / 2 - 0.5 for number in range(max(len(rows), columns))]
    axes.set_yticks(middles[: len(rows)], row_names, fontsize=10, color=INK)
    axes.set_xticks(middles[: len(column_names)], column_names, fontsize=10, color=INK)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _png(figure)
