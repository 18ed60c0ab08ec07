"""What the training loop asks of a method."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dae_ssl.config import Method, Networks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dae_ssl.distributed import World


@dataclass(frozen=True, kw_only=True)
class SelfSupervised(Method, abc.ABC):
    """A method with networks to train; a frozen dataclass of its settings."""

    def networks(self, settings: Networks, seed: int) -> nn.ModuleDict:
        """Return the networks it trains, initialised from the seed; always with an `encoder` and a `projector`.

        The encoder comes first, so that one seed gives every method, and the random-encoder floor, the same encoder.
        """
        import torch
        from torch import nn

        from dae_ssl.training.networks import encoder, initialise, projector

        parts: dict[str, nn.Module] = {"encoder": encoder(), "projector": projector(settings)}
        if self.decodes:
            parts["decoder"] = self.decoder(settings)
        built = nn.ModuleDict(parts | dict(self.further_networks(settings)))
        initialise(built, torch.Generator().manual_seed(seed))
        return built

    def decoder(self, settings: Networks) -> nn.Module:
        """Return the decoder, where there is one."""
        from dae_ssl.training.networks import decoder

        return decoder(settings)

    def further_networks(self, settings: Networks) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """Return what is trained beside encoder, projector and decoder, by name."""
        return {}

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder, and so reconstructions to look at."""
        return True

    @property
    def exchanges(self) -> bool:
        """Whether `forward` may exchange something with other ranks, as a loss of the whole batch does."""
        return True

    def weights(self, settings: Networks) -> Mapping[str, float]:  # noqa: ARG002
        """Return what `forward` multiplies terms of the loss with, by name.

        They reach it as scalars on the device: a number written into the step would be compiled anew for each value.
        """
        return {}

    @abc.abstractmethod
    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,
        view1: Tensor,
        view2: Tensor,
        weights: Mapping[str, Tensor],
        world: World,
    ) -> Mapping[str, Tensor]:
        """Return the terms of the loss, scalars, "loss" (to be minimised) among them.

        clean, view1, view2: this rank's images (n, 3, 32, 32), float in [0, 1]; weights: those of `weights`, float32
        scalars. The mean of each term over the ranks is the term of the global batch.
        """
