"""Images in rows and columns: views are those that training drew, networks stand below what they saw."""

import numpy as np
import torch
from torch import nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl.report.mosaics import GAP_PIXELS, mosaic, reconstructions, views_at
from dae_ssl.training.monitor import pictures
from tests.forged import a_cell


def test_views_at_the_strength_of_the_cell_are_those_kept_while_training() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    cell = a_cell(views={"crop": 20, "jitter": 0.7, "solarize": 0.5}, seed=3)
    kept = pictures(nn.ModuleDict(), cell, images)
    for view in (1, 2):
        assert np.array_equal(views_at(kept["clean"], cell, 0.7, view), kept[f"view{view}"])
        assert not np.array_equal(views_at(kept["clean"], cell, 0.75, view), kept[f"view{view}"])


def test_views_without_crop_flip_and_jitter_are_the_clean_images() -> None:
    clean = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(views_at(clean, a_cell(views={"crop": 32, "flip": 0}), 0.0, 1), clean)


def test_every_image_stands_at_its_row_and_column_unchanged() -> None:
    images = np.random.default_rng(1).integers(0, 255, (2, 3, 8, 8, 3), dtype=np.uint8)
    figure = mosaic(list(images), row_names=["a", "b"], column_names=["x", "y", "z"])
    (axes,) = figure.axes
    whole, pitch = axes.images[0].get_array(), 8 + GAP_PIXELS
    for i in range(2):
        for j in range(3):
            assert np.array_equal(whole[i * pitch : i * pitch + 8, j * pitch : j * pitch + 8], images[i, j])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]


def test_what_networks_make_of_a_view_stands_below_it_under_their_names() -> None:
    image = np.zeros((4, 8, 8, 3), np.uint8)
    autoencoder = dict.fromkeys(("clean", "view1", "view2", "reconstruction1", "reconstruction2"), image)
    encoder = dict.fromkeys(("clean", "view1", "view2"), image)
    figure = reconstructions(
        [({1: "A", 2: "A"}, autoencoder), ({1: "B", 2: "B"}, encoder), ({1: "C1", 2: "C2"}, autoencoder)]
    )
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["clean", "view 1", "A", "C1", "view 2", "A", "C2"]
