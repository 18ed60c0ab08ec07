"""Siamese autoencoders (section 2 of the study): two views are reconstructed and their embeddings compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dae_ssl.config import Networks, require
from dae_ssl.training.losses import EMBEDDING, RECONSTRUCTION, Pairwise, in_full
from dae_ssl.training.methods.base import SelfSupervised

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dae_ssl.distributed import World

    Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Siamese(SelfSupervised):
    """L = rec(target1, x̂1) + rec(target2, x̂2) + (alpha / d) emb(z1, z2)."""

    denoising: ClassVar[bool]
    """Whether a reconstruction is compared with the clean image rather than with the view it was made from."""

    embedding: str = "none"
    """The embedding loss: `none`, or the name of a registered function.

    Source: the paper, which has none, L1, L2 and NCS; the others stand with their own sources among the losses.
    """
    alpha: float = 0.0
    """The weight alpha of the embedding loss, which is divided by the embedding's width d; 0 is the plain autoencoder.

    Source: the paper, which tries 0.0001 to 100; the default is its plain autoencoder.
    """
    reconstruction: str = "l2"
    """The reconstruction loss: the name of a registered function.

    Source: the paper, which has L2.
    """

    def __post_init__(self) -> None:
        choices = ["none", *EMBEDDING]
        require(self.embedding in choices, "method.embedding", self.embedding, ", ".join(choices))
        require(self.alpha >= 0, "method.alpha", self.alpha, "0 or more")
        asked = self.alpha == 0 or self.embedding != "none"
        require(asked, "method.alpha", self.alpha, f"0, or set method.embedding too: {', '.join(EMBEDDING)}")
        known = self.reconstruction in RECONSTRUCTION
        require(known, "method.reconstruction", self.reconstruction, ", ".join(RECONSTRUCTION))

    def normalised(self) -> Self:
        """Return the settings, without an embedding loss if alpha is 0: all such cells are the same autoencoder."""
        return replace(self, embedding="none") if self.alpha == 0 else self

    @property
    def exchanges(self) -> bool:
        """Whether there is an embedding loss over the whole batch."""
        embedding = self.normalised().embedding
        return embedding != "none" and not isinstance(EMBEDDING[embedding], Pairwise)

    def weights(self, settings: Networks) -> Mapping[str, float]:
        """Return the weight of the embedding loss."""
        return {"embedding": self.alpha / settings.embedding_size}

    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,
        view1: Tensor,
        view2: Tensor,
        weights: Mapping[str, Tensor],
        world: World,
    ) -> Mapping[str, Tensor]:
        """Return the loss, the sum of both reconstruction terms, and the embedding term before it is weighted."""
        import torch

        z = networks["projector"](networks["encoder"](torch.cat([view1, view2])))
        x1, x2 = networks["decoder"](z).float().chunk(2)
        z1, z2 = z.float().chunk(2)
        with in_full(z):
            return self._terms((x1, x2), (z1, z2), (clean, view1, view2), weights, world)

    def _terms(
        self,
        outputs: Pair,
        embeddings: Pair,
        images: tuple[Tensor, Tensor, Tensor],
        weights: Mapping[str, Tensor],
        world: World,
    ) -> Mapping[str, Tensor]:
        (x1, x2), (z1, z2), (clean, view1, view2) = outputs, embeddings, images
        target1, target2 = (clean, clean) if self.denoising else (view1, view2)
        compare = RECONSTRUCTION[self.reconstruction]
        reconstruction = compare(x1, target1) + compare(x2, target2)
        if self.normalised().embedding == "none":
            return {"loss": reconstruction, "reconstruction": reconstruction}
        embedding = EMBEDDING[self.embedding](z1, z2, world)
        loss = reconstruction + weights["embedding"] * embedding
        return {"loss": loss, "reconstruction": reconstruction, "embedding": embedding}


@dataclass(frozen=True, kw_only=True)
class DenoisingAutoencoder(Siamese, name="dae"):
    """The denoising siamese autoencoder (DAE)."""

    denoising: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Siamese, name="ae"):
    """The non-denoising siamese autoencoder (AE)."""

    denoising: ClassVar[bool] = False
