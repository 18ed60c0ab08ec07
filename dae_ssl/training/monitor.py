"""What is observed during training: signs of collapse, and example pictures."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from dae_ssl.config import Cell, Optimisation
from dae_ssl.training.networks import unit_interval
from dae_ssl.training.views import draw, render

EVERY_EPOCH_AT_FIRST, EPOCHS_BETWEEN = 20, 10


def evenly(images: Tensor, count: int) -> Tensor:
    """Return `count` images (all, if there are fewer) spread evenly over a set, which is sorted by class."""
    return images[:: max(1, len(images) // count)][:count]


def is_looked_at(epoch: int, settings: Optimisation) -> bool:
    """Return whether signs of collapse are computed after an epoch: after each early epoch, later after every tenth.

    Collapse happens early or slowly, and computing its signs stops the GPU for longer than a step takes.
    """
    return epoch <= EVERY_EPOCH_AT_FIRST or epoch % EPOCHS_BETWEEN == 0 or epoch in settings.kept_epochs()


@torch.no_grad()
def collapse_signs(networks: nn.ModuleDict, images: Tensor) -> dict[str, float]:
    """Return how spread out embeddings and representations of clean images are; images: uint8 (n, 3, 32, 32).

    `embedding_std`: standard deviation of the normalised embeddings over images, times sqrt(d): 1 when they fill the
    sphere, 0 when all are one point (Chen & He 2021, section 4.1). Effective ranks: exponential of the entropy of the
    normalised singular values (Roy & Vetterli 2007) of the centred embeddings and representations.
    """
    h = networks["encoder"](unit_interval(images).contiguous(memory_format=torch.channels_last))
    z = networks["projector"](h)
    spread = nn.functional.normalize(z.float(), dim=1).std(0).mean() * math.sqrt(z.shape[1])
    return {
        "embedding_std": spread.item(),
        "embedding_effective_rank": effective_rank(z),
        "representation_effective_rank": effective_rank(h),
    }


def effective_rank(rows: Tensor) -> float:
    """Return the effective rank of vectors (n, d) about their mean, between 0 (all equal) and min(n - 1, d)."""
    rows = rows.double()
    centred = rows - rows.mean(0)
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    # The matrix products, most of the work, run where the rows are; eigenvalues of so small a matrix are left to a CPU.
    gram, norm = gram.cpu(), rows.norm().item()
    if not math.isfinite(norm):
        return math.nan
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    # Singular values below the rounding error of the vectors are noise.
    values = values[values > 1e-7 * norm]
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(values) else 0.0


@torch.no_grad()
def pictures(networks: nn.ModuleDict, cell: Cell, images: Tensor) -> dict[str, np.ndarray]:
    """Return examples as uint8 arrays (n, 32, 32, 3): clean, the views that the method takes, and reconstructions.

    images: uint8 (n, 3, 32, 32) on the networks' device. The views are the same at every epoch.
    """
    return {
        name: (value.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        for name, value in passed_through(networks, cell, images).items()
    }


@torch.no_grad()
def passed_through(networks: nn.ModuleDict, cell: Cell, images: Tensor) -> dict[str, Tensor]:
    """Return inputs and outputs of the networks: clean, view1 and view2, reconstruction1 and reconstruction2.

    images: uint8 (n, 3, 32, 32) on the networks' device; each value float (n, 3, 32, 32) in [0, 1]. A method that takes
    no views has only `clean`, and `reconstruction1` is made from that; without a decoder there are no reconstructions.
    """
    rows, side = torch.arange(len(images), device=images.device), images.shape[-1]
    shown = {"clean": unit_interval(images)}
    seen = {1: shown["clean"]}
    if cell.method.augments:
        for number in (1, 2):
            drawn = draw(cell.views, seed=cell.seed, epoch=0, indices=rows, view=number, size=side)
            seen[number] = shown[f"view{number}"] = render(images, drawn, cell.views)
    if "decoder" in networks:
        for number, view in seen.items():
            z = networks["projector"](networks["encoder"](view))
            shown[f"reconstruction{number}"] = networks["decoder"](z)
    return shown
