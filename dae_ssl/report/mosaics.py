"""Draw images in rows and columns: reconstructions as in Figure 5 of the study, views by strength as in Figure 8."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dae_ssl.config import Cell
from dae_ssl.experiments.augmentation_strength import STRENGTHS
from dae_ssl.report.drawing import INK, LABEL_POINTS, WIDTH_PIXELS, blank
from dae_ssl.report.findings import Image, Pictures
from dae_ssl.training.views import draw, render

GAP_PIXELS, EDGE_PIXELS = 2, 5
VIEWS = (1, 2)


def mosaic(rows: Sequence[Sequence[Image]], *, row_names: Sequence[str], column_names: Sequence[str]) -> Any:
    """Draw images of equal size in rows and columns, as one image, which is faster than separate axes."""
    side, columns, pitch = rows[0][0].shape[0], len(rows[0]), rows[0][0].shape[0] + GAP_PIXELS
    whole = np.full((len(rows) * pitch - GAP_PIXELS, columns * pitch - GAP_PIXELS, 3), 255, np.uint8)
    for i, images in enumerate(rows):
        for j, image in enumerate(images):
            whole[i * pitch : i * pitch + side, j * pitch : j * pitch + side] = image
    longest = max((len(part) for name in row_names for part in name.split("\n")), default=0)
    names_pixels, head_pixels = max(135, 8 * longest), 45 if column_names else EDGE_PIXELS
    scale = min((WIDTH_PIXELS - names_pixels) / whole.shape[1], 2.75)
    width, height = whole.shape[1] * scale, whole.shape[0] * scale
    total = height + head_pixels + EDGE_PIXELS
    figure = blank(height_pixels=total)
    figure.set_layout_engine("none")
    axes = figure.add_axes((names_pixels / WIDTH_PIXELS, EDGE_PIXELS / total, width / WIDTH_PIXELS, height / total))
    axes.imshow(whole, interpolation="nearest", aspect="auto")
    middles = [number * pitch + side / 2 - 0.5 for number in range(max(len(rows), columns))]
    axes.set_yticks(middles[: len(rows)], row_names, fontsize=LABEL_POINTS, color=INK)
    axes.set_xticks(middles[: len(column_names)], column_names, fontsize=LABEL_POINTS, color=INK)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def reconstructions(networks: Sequence[tuple[Mapping[int, str], Pictures]]) -> Any:
    """Draw images in columns: clean, each view, and below a view the networks' reconstructions, as in Figure 5.

    networks: for each network the labels of its reconstructions, by view, and its pictures; all networks must have the
    same images and views.
    """
    seen = networks[0][1]
    rows, names = [list(seen["clean"])], ["clean"]
    for view in VIEWS:
        if f"view{view}" in seen:
            rows.append(list(seen[f"view{view}"]))
            names.append(f"view {view}")
        for by_view, pictures in networks:
            if f"reconstruction{view}" in pictures:
                rows.append(list(pictures[f"reconstruction{view}"]))
                names.append(by_view[view])
    return mosaic(rows, row_names=names, column_names=[])


def views_by_strength(clean: Image, cell: Cell, *, name: str, images: int = 4) -> Any:
    """Draw two views of the first few clean images at several jitter strengths, with the cell's, as in Figure 8.

    clean: shape (n, side, side, 3); name: the label of the cell's strength. The crop and flip of a view are the same at
    every strength.
    """
    strengths = sorted({*STRENGTHS, cell.views.jitter})
    chosen = clean[:images]
    views = {(strength, view): views_at(chosen, cell, strength, view) for strength in strengths for view in VIEWS}
    rows, names = [], []
    for i, image in enumerate(chosen):
        for view in VIEWS:
            rows.append([image, *(views[strength, view][i] for strength in strengths)])
            names.append(f"image {i + 1}, view {view}")
    below = {cell.views.jitter: f"\n({name})"}
    columns = ["clean", *(f"s = {strength:g}{below.get(strength, '')}" for strength in strengths)]
    return mosaic(rows, row_names=names, column_names=columns)


def views_at(clean: Image, cell: Cell, strength: float, view: int) -> Image:
    """Return the views that the cell draws of clean images, with another jitter strength; uint8 (n, side, side, 3)."""
    settings = dataclasses.replace(cell.views, jitter=strength)
    images = torch.from_numpy(clean).permute(0, 3, 1, 2).contiguous()
    side, indices = images.shape[-1], torch.arange(len(images))
    drawn = draw(settings, seed=cell.seed, epoch=0, indices=indices, view=view, size=side)
    seen = (render(images, drawn, settings) * 255).round().to(torch.uint8)
    return np.asarray(seen.permute(0, 2, 3, 1).numpy())
