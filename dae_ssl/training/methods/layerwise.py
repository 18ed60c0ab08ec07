"""Layer-wise training with a symmetric decoder, which the published code can also run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dae_ssl.config import Networks, require
from dae_ssl.training.losses import RECONSTRUCTION, in_full
from dae_ssl.training.methods.base import SelfSupervised

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dae_ssl.distributed import World


@dataclass(frozen=True, kw_only=True)
class LayerwiseDenoisingAutoencoder(SelfSupervised, name="layerwise_dae"):
    """Every layer of the encoder learns, with its counterpart in the decoder, to reconstruct the clean image.

    L = sum over layers k of rec(clean, D_1(... D_k(E_k(h_{k-1})))), where the gradient reaches only the pair E_k, D_k:
    h_{k-1} is detached, and the outer pairs are held fixed. There is one view, as in the published code, which trains
    the pairs one after another for a full run each. Here they learn side by side (decoupled greedy learning,
    Belilovsky, Eickenberg & Oyallon 2020), so that a run is as long as with any other method.
    """

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

    def decoder(self, settings: Networks) -> nn.Module:
        """Return the decoder that has one layer for each layer of the encoder."""
        from dae_ssl.training.networks import symmetric_decoder

        return symmetric_decoder(settings)

    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,
        view1: Tensor,
        view2: Tensor,  # noqa: ARG002
        weights: Mapping[str, Tensor],  # noqa: ARG002
        world: World,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return the sum of all layers' losses; "reconstruction" is the innermost one, of the whole autoencoder."""
        import torch

        compare = RECONSTRUCTION[self.reconstruction]
        losses: list[Tensor] = []
        outer: list[nn.Module] = []
        h = view1
        for encode, decode in pairs(networks):
            h = encode(h.detach())
            output = _still(outer, decode(h)).float()
            with in_full(output):
                losses.append(compare(output, clean))
            outer.insert(0, decode)
        return {"loss": torch.stack(losses).sum(), "reconstruction": losses[-1]}


def pairs(networks: nn.ModuleDict) -> list[tuple[nn.Module, nn.Module]]:
    """Return each layer of the encoder, outermost first and the projector last, with its counterpart in the decoder.

    A layer is a convolution or linear map and the module after it: a pooling, a nonlinearity or a change of shape.
    """
    inward = _in_twos([*networks["encoder"].children(), networks["projector"]])
    outward = _in_twos([*networks["decoder"].children()])
    return list(zip(inward, reversed(outward), strict=True))


def _in_twos(modules: Sequence[nn.Module]) -> list[nn.Module]:
    from torch import nn

    return [nn.Sequential(*modules[start : start + 2]) for start in range(0, len(modules), 2)]


def _still(layers: Sequence[nn.Module], inner: Tensor) -> Tensor:
    """Apply layers with their weights held fixed; the gradient still flows through them to `inner`."""
    import torch

    for layer in layers:
        fixed = {name: value.detach() for name, value in layer.named_parameters()}
        inner = torch.func.functional_call(layer, fixed, (inner,))
    return inner
