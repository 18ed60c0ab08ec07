"""Reconstruction, embedding and contrastive losses.

A loss returns this rank's part, such that the *mean over ranks* is the loss of the global batch; the same holds for
gradients averaged over ranks. Embedding losses that compare the two views of an image are written per image and
registered with their reduction over the batch; losses over the whole batch gather it from all ranks.

The functions that compute import torch themselves, so that the names of the losses are known without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dae_ssl.config import ConfigError, Method, require, settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dae_ssl.distributed import World

    Reconstruction = Callable[[Tensor, Tensor], Tensor]
    PerImage = Callable[[Tensor, Tensor], Tensor]
    Embedding = Callable[[Tensor, Tensor, World], Tensor]
    Contrast = Callable[[Tensor, Tensor, float, World], Tensor]

CONTRAST_TEMPERATURE = 0.5
"""The choice of Chen et al. 2020 for CIFAR-10 (their appendix B.9)."""
REDUNDANCY_WEIGHT = 5e-3
"""The lambda of Zbontar et al. 2021."""


@dataclass(frozen=True)
class Pairwise:
    """A distance between the embeddings of two views, (n, d) and (n, d) -> (n,), and its reduction over the batch."""

    per_image: PerImage
    reduction: str

    def __call__(self, z1: Tensor, z2: Tensor, world: World) -> Tensor:
        """Return this rank's part of the loss of the global batch, a scalar."""
        values = self.per_image(z1, z2)
        if values.shape != z1.shape[:1]:
            name, shape = self.per_image.__name__, tuple(values.shape)
            raise ConfigError(f"the embedding loss {name} returned {shape} for {len(z1)} pairs: return ({len(z1)},)")
        return values.mean() if self.reduction == "mean" else values.sum() * world.size


def in_full(outputs: Tensor) -> torch.autocast:
    """Return the context in which losses of these outputs are computed in float32, whatever the networks' precision.

    Autocast would compute the products of a contrastive loss in bf16 again: 8 bits for logits that differ little.
    """
    import torch

    return torch.autocast(outputs.device.type, enabled=False)


RECONSTRUCTION: dict[str, Reconstruction] = {}
EMBEDDING: dict[str, Embedding] = {}
CONTRAST: dict[str, Contrast] = {}


def embedding(reduction: str = "mean") -> Callable[[PerImage], PerImage]:
    """Register a distance of each image's two embeddings, (n, d) and (n, d) -> (n,), under the function's name.

    reduction: `mean` or `sum` over the images of the global batch. Like every decorator here, it raises ConfigError for
    a name that another module has registered: a name stands for one computation, since keys hold nothing but the name.
    """
    require(reduction in ("mean", "sum"), "reduction", reduction, "mean or sum")

    def register(function: PerImage) -> PerImage:
        _register(EMBEDDING, function.__name__, Pairwise(function, reduction))
        return function

    return register


def batch_embedding(function: Embedding) -> Embedding:
    """Register an embedding loss of a whole batch, z1, z2 (n, d) and the world -> a scalar, under its name."""
    _register(EMBEDDING, function.__name__.removesuffix("_embedding"), function)
    return function


def reconstruction(function: Reconstruction) -> Reconstruction:
    """Register a reconstruction loss, reconstructions and targets (n, 3, h, w) -> a scalar, under its name."""
    _register(RECONSTRUCTION, function.__name__.removesuffix("_reconstruction"), function)
    return function


def contrast(function: Contrast) -> Contrast:
    """Register a contrastive loss, z1, z2 (n, d), temperature and world -> a scalar, under its name."""
    _register(CONTRAST, function.__name__, function)
    return function


def origins(method: Method) -> dict[str, str]:
    """Return the modules that define the losses which a method's settings name, each with the name of one of them."""
    named = {str(value) for value in settings(method).values()}
    every = (loss for registry in (EMBEDDING, RECONSTRUCTION, CONTRAST) for loss in registry.items())
    return {_module(loss): name for name, loss in every if name in named}


def _register(registry: dict[str, Any], name: str, loss: object) -> None:
    there = registry.get(name)
    choices = "a name that no other module has registered for a loss"
    require(there is None or _module(there) == _module(loss), "loss", name, choices)
    registry[name] = loss


def _module(loss: object) -> str:
    return str((loss.per_image if isinstance(loss, Pairwise) else loss).__module__)


@reconstruction
def l2_reconstruction(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error over all elements (the study's pseudo-code)."""
    from torch.nn import functional

    return functional.mse_loss(reconstruction, target)


@embedding()
def l1(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the mean absolute difference of each pair (section 2 of the study)."""
    return (z1 - z2).abs().mean(1)


@embedding()
def l2(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the mean squared difference of each pair (section 2 of the study)."""
    return (z1 - z2).square().mean(1)


@embedding()
def ncs(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the negative cosine similarity of each pair, as the study's name and text say: -1 when views agree."""
    from torch.nn import functional

    return -functional.cosine_similarity(z1, z2, dim=1)


@embedding(reduction="sum")
def repelling_cosine(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the cosine similarity of each pair, summed over the batch, as equation 7 and the published code have it.

    Minimising it turns the two views of an image away from each other.
    """
    from torch.nn import functional

    return functional.cosine_similarity(z1, z2, dim=1)


@contrast
def nt_xent(z1: Tensor, z2: Tensor, temperature: float, world: World) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy (Chen et al. 2020, equation 1) over the global batch.

    z1, z2: this rank's embeddings (n, d). Each of the 2 n anchors is contrasted with all other 2 n size - 1 embeddings.
    """
    import torch
    from torch.nn import functional

    from dae_ssl.distributed import gather_rows

    z1, z2 = functional.normalize(z1, dim=1), functional.normalize(z2, dim=1)
    everything = torch.cat([gather_rows(z1, world), gather_rows(z2, world)])
    n, total = len(z1), len(everything) // 2
    own = world.rank * n + torch.arange(n, device=z1.device)
    logits = torch.cat([z1, z2]) @ everything.T / temperature
    itself = torch.cat([own, own + total])
    logits = logits.scatter(1, itself[:, None], -math.inf)
    return functional.cross_entropy(logits, torch.cat([own + total, own]))


@contrast
def published_contrast(z1: Tensor, z2: Tensor, temperature: float, world: World) -> Tensor:  # noqa: ARG001
    """Return the published code's contrastive loss, over the global batch; it has no temperature.

    With cosine similarities s (norms enlarged by 0.001), a_i = sum_j exp s(z1_i, z2_j), b_i = sum_j exp s(z1_i, z1_j)
    in which an image's similarity with itself counts as 0 rather than being left out, and c_i likewise among the second
    views: the mean over i of (log(a_i + b_i) + log(a_i + c_i)) / 2 - s(z1_i, z2_i).
    """
    import torch

    from dae_ssl.distributed import gather_rows

    z1, z2 = (z / (z.norm(dim=1, keepdim=True) + 0.001) for z in (z1, z2))
    all1, all2 = gather_rows(z1, world), gather_rows(z2, world)
    own = (world.rank * len(z1) + torch.arange(len(z1), device=z1.device))[:, None]
    across = z1 @ all2.T
    within = [(z @ other.T).scatter(1, own, 0.0) for z, other in ((z1, all1), (z2, all2))]
    spread = [torch.cat([across, same], 1).logsumexp(1) for same in within]
    return (0.5 * (spread[0] + spread[1]) - across.gather(1, own)[:, 0]).mean()


# ---------------------------------------------------------------------------------- embedding losses over a batch


@batch_embedding
def nt_xent_embedding(z1: Tensor, z2: Tensor, world: World) -> Tensor:
    """Return NT-Xent (`nt_xent`) at its usual temperature, as an embedding loss inside an autoencoder."""
    return nt_xent(z1, z2, CONTRAST_TEMPERATURE, world)


@batch_embedding
def barlow_twins_embedding(z1: Tensor, z2: Tensor, world: World) -> Tensor:
    """Return the distance of the two views' cross-correlation over the global batch from the identity.

    sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, with every dimension at mean 0 and variance 1 over the batch
    (Zbontar et al. 2021, equations 1 and 2). z1, z2: this rank's embeddings (n, d).
    """
    from dae_ssl.distributed import gather_rows

    gathered = (gather_rows(z, world) for z in (z1, z2))
    one, other = ((z - z.mean(0)) / z.std(0, correction=0).clamp_min(1e-6) for z in gathered)
    correlation = one.T @ other / len(one)
    diagonal = correlation.diagonal()
    redundancy = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + REDUNDANCY_WEIGHT * redundancy
