"""The figures of a cell: a panel for each term, a line for each learning rate, a picture for each kept epoch."""

import numpy as np

from dae_ssl.report.cell.figures import reconstructions_by_epoch, training_curves, validation_curves


def test_terms_have_a_panel_each_known_ones_first_and_seconds_none() -> None:
    curve = [(1, 1.0), (2, 0.5)]
    terms = ("mine", "embedding", "loss", "epoch_seconds", "step_seconds")
    panels = training_curves(dict.fromkeys(terms, curve)).axes
    assert [axes.get_title("left") for axes in panels] == ["Loss, total", "Embedding term, unweighed", "mine"]
    assert [list(axes.get_lines()[0].get_ydata()) for axes in panels] == [[1.0, 0.5]] * 3


def test_selected_learning_rate_is_drawn_strong_and_named_in_percent() -> None:
    figure = validation_curves({"this cell": {0.01: [(1, 0.5)], 0.001: [(1, 0.25)]}, "raw pixels": {0.01: [(1, 0.1)]}})
    strong, thin, floor = figure.axes[0].get_lines()
    assert [list(drawn.get_ydata()) for drawn in (strong, thin, floor)] == [[50.0], [25.0], [10.0]]
    assert strong.get_linewidth() > thin.get_linewidth()
    assert strong.get_color() == thin.get_color() != floor.get_color()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "this cell, learning rate 0.01", "raw pixels, learning rate 0.01",
    ]  # fmt: skip


def test_reconstructions_stand_in_a_column_for_each_kept_epoch() -> None:
    pictures = {
        epoch: {name: np.full((5, 8, 8, 3), epoch, np.uint8) for name in ("clean", "view1", "reconstruction1")}
        for epoch in (1, 4)
    }
    (axes,) = reconstructions_by_epoch(pictures, images=2).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "view 1", "epoch 1", "epoch 4"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image 1", "image 2"]
    assert list(axes.images[0].get_array()[0, ::10, 0]) == [4, 4, 1, 4]
