"""SimCLR (Chen et al. 2020), the study's baseline: the same encoder and projector, no decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from dae_ssl.config import require
from dae_ssl.training.losses import CONTRAST, CONTRAST_TEMPERATURE, in_full
from dae_ssl.training.methods.base import SelfSupervised

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dae_ssl.distributed import World


@dataclass(frozen=True, kw_only=True)
class SimCLR(SelfSupervised, name="simclr"):
    """The two views of an image are contrasted with the views of all other images of the global batch."""

    contrast: str = "nt_xent"
    """The contrastive loss: `nt_xent` or `published_contrast`.

    Source: the paper, whose text has InfoNCE as in SimCLR (Chen et al. 2020); the published code has its own mixture,
    which is `published_contrast`.
    """
    temperature: float = CONTRAST_TEMPERATURE
    """The temperature of NT-Xent, by which similarities are divided.

    Source: Chen et al. 2020, appendix B.9, for CIFAR-10; the paper gives none.
    """

    def __post_init__(self) -> None:
        require(self.contrast in CONTRAST, "method.contrast", self.contrast, ", ".join(CONTRAST))
        require(self.temperature > 0, "method.temperature", self.temperature, "a number above 0")

    def normalised(self) -> Self:
        """Return the settings, with the default temperature if the loss has no temperature."""
        return self if self.contrast == "nt_xent" else replace(self, temperature=SimCLR.temperature)

    @property
    def decodes(self) -> bool:
        """False: there is no decoder."""
        return False

    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,  # noqa: ARG002
        view1: Tensor,
        view2: Tensor,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        world: World,
    ) -> Mapping[str, Tensor]:
        """Return the loss, which is the contrast of the two views' embeddings."""
        import torch

        z = networks["projector"](networks["encoder"](torch.cat([view1, view2]))).float()
        z1, z2 = z.chunk(2)
        with in_full(z):
            loss = CONTRAST[self.contrast](z1, z2, self.temperature, world)
        return {"loss": loss, "embedding": loss}
