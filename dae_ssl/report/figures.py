"""Drawings of a cell: arrays and curves -> PNG."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dae_ssl.config import Cell
from dae_ssl.experiments.augmentation_strength import STRENGTHS
from dae_ssl.report.drawing import COLOURS, INK, Curve, Image, blank, dress, line, mosaic, mosaic_figure, png
from dae_ssl.training.views import draw, render

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
    order = [
        *(term for term in TERMS if term in curves),
        *sorted(curves.keys() - TERMS.keys() - {"epoch_seconds", "step_seconds"}),
    ]
    columns = min(3, len(order))
    rows = math.ceil(len(order) / columns)
    figure = blank(height_pixels=60 + 215 * rows)
    for place, term in enumerate(order, 1):
        axes = figure.add_subplot(rows, columns, place)
        title, unit = TERMS.get(term, (term.replace("_", " "), "as logged"))
        line(axes, curves[term], COLOURS[0])
        dress(axes, title=title, x="epoch", y=unit)
        if term not in ("loss", "reconstruction", "embedding"):
            axes.set_ylim(bottom=0)
    return png(figure)


def validation_curves(subjects: Mapping[str, Mapping[float, Curve]]) -> bytes:
    """Draw validation accuracy by probe epoch; `subjects` maps words to curves by learning rate; return a PNG.

    Accuracies come as shares and are drawn in percent. A subject's first learning rate is drawn strong and named.
    """
    figure = blank(height_pixels=430)
    axes = figure.add_subplot()
    styles = ("-", "--", ":", "-.")
    for number, (words, curves) in enumerate(subjects.items()):
        colour, style = COLOURS[number % len(COLOURS)], styles[number % len(styles)]
        for place, (rate, curve) in enumerate(curves.items()):
            percent = [(step, 100 * share) for step, share in curve]
            label = f"{words}, learning rate {rate:g}" if place == 0 else ""
            line(axes, percent, colour, style=style, label=label, width=2.0 if place == 0 else 0.8)
    dress(axes, title="", x="probe epoch", y="validation accuracy, top-1 (%)")
    axes.legend(facecolor="white", edgecolor="none", framealpha=0.85, fontsize=10, labelcolor=INK, loc="lower right")
    return png(figure)


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
    return mosaic(list(rows.values()), row_names=list(rows), column_names=[])


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
    return mosaic(rows, row_names=[f"image {i + 1}" for i in shown], column_names=columns)


def views_by_strength(clean: Image, cell: Cell, *, images: int = 4) -> bytes:
    """Draw two views of the first few clean images at several jitter strengths, the cell's own too (Figure 8).

    clean: uint8 (n, side, side, 3). Crop and flip of a view are the same at every strength. Returns a PNG.
    """
    return png(views_by_strength_figure(clean, cell, images=images))


def views_by_strength_figure(clean: Image, cell: Cell, *, images: int = 4, own: str = "this cell") -> Any:
    """Return the figure that `views_by_strength` draws."""
    strengths = sorted({*STRENGTHS, cell.views.jitter})
    chosen = clean[:images]
    views = {(strength, view): views_at(chosen, cell, strength, view) for strength in strengths for view in (1, 2)}
    rows, names = [], []
    for i, image in enumerate(chosen):
        for view in (1, 2):
            rows.append([image, *(views[strength, view][i] for strength in strengths)])
            names.append(f"image {i + 1}, view {view}")
    named = {cell.views.jitter: f"\n({own})"}
    columns = ["clean", *(f"s = {s:g}{named.get(s, '')}" for s in strengths)]
    return mosaic_figure(rows, row_names=names, column_names=columns)


def views_at(clean: Image, cell: Cell, strength: float, view: int) -> Image:
    """Return the views of clean images as the cell draws them, but for the jitter's strength; uint8 (n, s, s, 3)."""
    settings = dataclasses.replace(cell.views, jitter=strength)
    images = torch.from_numpy(clean).permute(0, 3, 1, 2).contiguous()
    side, indices = images.shape[-1], torch.arange(len(images))
    drawn = draw(settings, seed=cell.seed, epoch=0, indices=indices, view=view, size=side)
    seen = (render(images, drawn, settings) * 255).round().to(torch.uint8)
    return np.asarray(seen.permute(0, 2, 3, 1).numpy())
