"""Draw the figures of a cell: the curves of training and probe, and the reconstructions by epoch."""

import math
from collections.abc import Mapping
from typing import Any

from dae_ssl.report.drawing import COLOURS, VALIDATION_ACCURACY, blank, frame_epochs, legend_above, line, pen
from dae_ssl.report.findings import Curve, Pictures
from dae_ssl.report.mosaics import mosaic

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
"""The titles and units of the pretraining curves, in the order of the panels; other terms follow with their names."""


def training_curves(curves: Mapping[str, Curve]) -> Any:
    """Draw each logged term of pretraining by epoch, in a separate panel since their scales differ."""
    order = [
        *(term for term in TERMS if term in curves),
        *sorted(curves.keys() - TERMS.keys() - {"epoch_seconds", "step_seconds"}),
    ]
    columns = min(3, len(order))
    rows = math.ceil(len(order) / columns)
    figure = blank(height_pixels=60 + 215 * rows)
    for number, term in enumerate(order, 1):
        axes = figure.add_subplot(rows, columns, number)
        title, unit = TERMS.get(term, (term.replace("_", " "), "as logged"))
        line(axes, curves[term], COLOURS[0])
        frame_epochs(axes, title=title, x="epoch", y=unit)
        if term not in ("loss", "reconstruction", "embedding"):
            axes.set_ylim(bottom=0)
    return figure


def validation_curves(by_name: Mapping[str, Mapping[float, Curve]]) -> Any:
    """Draw validation accuracy by probe epoch; `by_name` maps the label of a cell to its curves by learning rate.

    Accuracies are given as shares and drawn in percent. The curve of a cell's first learning rate is thick and in the
    legend.
    """
    figure = blank(height_pixels=430)
    axes = figure.add_subplot()
    for number, (name, curves) in enumerate(by_name.items()):
        colour, style = pen(number).colour, pen(number).style
        for place, (rate, curve) in enumerate(curves.items()):
            percent = [(step, 100 * share) for step, share in curve]
            label = f"{name}, learning rate {rate:g}" if place == 0 else ""
            line(axes, percent, colour, style=style, label=label, width=2.0 if place == 0 else 0.8)
    frame_epochs(axes, title="", x="probe epoch", y=VALIDATION_ACCURACY)
    legend_above(figure, [axes])
    return figure


def reconstructions_by_epoch(pictures: Mapping[int, Pictures], *, images: int = 3) -> Any:
    """Draw how the reconstructions of the first few images change over the kept epochs.

    pictures: the example pictures by epoch, all with reconstructions.
    """
    last = pictures[max(pictures)]
    shown = range(min(images, len(last["clean"])))
    rows = [
        [last["clean"][i], last["view1"][i], *(pictures[epoch]["reconstruction1"][i] for epoch in pictures)]
        for i in shown
    ]
    columns = ["clean", "view 1", *(f"epoch {epoch}" for epoch in pictures)]
    return mosaic(rows, row_names=[f"image {i + 1}" for i in shown], column_names=columns)
