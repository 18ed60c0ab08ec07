"""The interface between the training loop and a method."""

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
    """A method that trains networks; a frozen dataclass whose fields are its settings."""

    def networks(self, settings: Networks, seed: int) -> nn.ModuleDict:
        """Return the networks that it trains, initialised from the seed; always an `encoder` and a `projector`.

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
        """Return the decoder; called only if the method `decodes`."""
        from dae_ssl.training.networks import decoder

        return decoder(settings)

    def further_networks(self, settings: Networks) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """Return, by name, the networks to train in addition to encoder, projector and decoder."""
        return {}

    @property
    def decodes(self) -> bool:
        """Whether the method has a decoder, and so reconstructions."""
        return True

    @property
    def exchanges(self) -> bool:
        """Whether `forward` may communicate with other ranks, as a loss over the whole batch does."""
        return True

    def weights(self, settings: Networks) -> Mapping[str, float]:  # noqa: ARG002
        """Return, by name, the factors by which `forward` multiplies terms of the loss.

        `forward` receives them as scalars on the device: with a constant, each value would be compiled separately.
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
        """Return the terms of the loss by name, as scalars; the term "loss" is minimised, the others are logged.

        clean, view1, view2: this rank's images (n, 3, 32, 32), float in [0, 1]; weights: those of `weights`, float32
        scalars. The mean of each term over the ranks is the term of the global batch.
        """
