"""Single-view autoencoders, which the published code can also run: one reconstruction, no embedding loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dae_ssl.config import require
from dae_ssl.training.losses import RECONSTRUCTION, in_full
from dae_ssl.training.methods.base import SelfSupervised

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dae_ssl.distributed import World


@dataclass(frozen=True, kw_only=True)
class SingleView(SelfSupervised):
    """L = rec(clean, x̂1) with x̂1 made from a view when denoising; otherwise L = rec(clean, x̂), made from the clean."""

    denoising: ClassVar[bool]
    """Whether the input is a view rather than the clean image."""

    reconstruction: str = "l2"
    """The reconstruction loss: the name of a registered function.

    Source: the paper, which has L2.
    """

    def __post_init__(self) -> None:
        known = self.reconstruction in RECONSTRUCTION
        require(known, "method.reconstruction", self.reconstruction, ", ".join(RECONSTRUCTION))

    @property
    def exchanges(self) -> bool:
        """False, since each image has a loss of its own."""
        return False

    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,
        view1: Tensor,
        view2: Tensor,  # noqa: ARG002
        weights: Mapping[str, Tensor],  # noqa: ARG002
        world: World,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return the loss, which is the one reconstruction term."""
        seen = view1 if self.denoising else clean
        z = networks["projector"](networks["encoder"](seen))
        output = networks["decoder"](z).float()
        with in_full(output):
            loss = RECONSTRUCTION[self.reconstruction](output, clean)
        return {"loss": loss, "reconstruction": loss}


@dataclass(frozen=True, kw_only=True)
class SingleViewDenoisingAutoencoder(SingleView, name="single_view_dae"):
    """The clean image is reconstructed from one view."""

    denoising: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class SingleViewAutoencoder(SingleView, name="single_view_ae"):
    """The clean image is reconstructed from itself, without augmentation, as in the published code."""

    denoising: ClassVar[bool] = False
    augments: ClassVar[bool] = False
