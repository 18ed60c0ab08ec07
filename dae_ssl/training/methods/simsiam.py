"""SimSiam (Chen & He 2021): each view's embedding predicts the other's, which is held fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dae_ssl.config import Networks
from dae_ssl.training.losses import in_full
from dae_ssl.training.methods.base import SelfSupervised

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dae_ssl.distributed import World


@dataclass(frozen=True, kw_only=True)
class SimSiam(SelfSupervised, name="simsiam"):
    """L = (D(p1, z2) + D(p2, z1)) / 2, with D the negative cosine similarity and no gradient to z (their equation 2).

    The predictor is theirs, two layers with a quarter of the width between them, but without batch norm, which none of
    these networks has. (The predictor of the study's published code is one layer and a sigmoid.)
    """

    @property
    def decodes(self) -> bool:
        """False: there is no decoder."""
        return False

    @property
    def exchanges(self) -> bool:
        """False, since each image has a loss of its own."""
        return False

    def further_networks(self, settings: Networks) -> Mapping[str, nn.Module]:
        """Return the predictor: embeddings (n, d) -> predicted embeddings of the other view (n, d)."""
        from torch import nn

        width = settings.embedding_size
        between = max(1, width // 4)
        return {"predictor": nn.Sequential(nn.Linear(width, between), nn.ReLU(), nn.Linear(between, width))}

    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,  # noqa: ARG002
        view1: Tensor,
        view2: Tensor,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        world: World,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return the loss, from -1, if the predictions point exactly at the embeddings, to 1."""
        import torch
        from torch.nn import functional

        z = networks["projector"](networks["encoder"](torch.cat([view1, view2])))
        p1, p2 = networks["predictor"](z).float().chunk(2)
        z1, z2 = z.detach().float().chunk(2)
        with in_full(z):
            agreement = functional.cosine_similarity(p1, z2), functional.cosine_similarity(p2, z1)
            loss = -0.5 * (agreement[0].mean() + agreement[1].mean())
        return {"loss": loss, "embedding": loss}
