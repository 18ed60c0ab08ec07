"""A method of one's own: the encoder learns to say by how many right angles a view was turned.

    python own_method.py [STORE]         half a minute on one core; a second time nothing is computed

The method is that of Gidaris, Singh & Komodakis 2018 ("Unsupervised representation learning by predicting image
rotations"), on the study's network. A method is a frozen dataclass of its settings, registered under `name`, whose
`forward` returns the terms of its loss; views, loop, checkpoints, features, probes and reports come with it. Digits
know up from down, mostly.

What computes sits below `if __name__ == "__main__":`, because the processes that compute a cell import this script.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import dae_ssl
from dae_ssl.config import Networks
from dae_ssl.data.prepare import prepare
from dae_ssl.distributed import World
from dae_ssl.training.methods.base import SelfSupervised

SMALL: dict[str, Any] = {
    "data": {"pretrain": "digits", "evaluate": "digits", "pretrain_images": 256, "evaluate_images": 400,
             "validation_images": 100},
    "views": {"flip": 0, "crop": 28},
    "optimisation": {"epochs": 2, "batch_size": 32, "learning_rate": 0.001},
    "probe": {"epochs": 30},
    "kmeans": {"restarts": 1},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rotations(SelfSupervised, name="rotations"):
    """The number of right angles by which a view was turned is predicted from its embedding."""

    smoothing: float = 0.0
    """Label smoothing of the cross-entropy, from 0 to 1."""
    decodes = False
    exchanges = False

    def further_networks(self, settings: Networks) -> Mapping[str, nn.Module]:
        """Return the layer that predicts, which is trained beside encoder and projector."""
        return {"predictor": nn.Linear(settings.embedding_size, 4)}

    def forward(
        self,
        networks: nn.ModuleDict,
        clean: Tensor,  # noqa: ARG002
        view1: Tensor,
        view2: Tensor,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        world: World,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return the cross-entropy, and the share of views whose turn is predicted; every fourth is turned alike."""
        views = torch.cat([view1, view2])
        turned = [views[turns::4].rot90(turns, (2, 3)) for turns in range(4)]
        turns = torch.cat([torch.full((len(part),), angle, device=views.device) for angle, part in enumerate(turned)])
        logits = networks["predictor"](networks["projector"](networks["encoder"](torch.cat(turned)))).float()
        loss = functional.cross_entropy(logits, turns, label_smoothing=self.smoothing)
        return {"loss": loss, "turns_predicted": logits.argmax(1).eq(turns).float().mean()}


def main(store: str = "store") -> None:
    """Compute a cell of the method, and print what its encoder is worth."""
    prepare(dae_ssl.Store.of(store), "digits", "digits")
    cell = dae_ssl.cell(method="rotations", smoothing=0.1, **SMALL)
    if dae_ssl.run(cell, store).left:
        raise SystemExit("not everything was computed: see the lines above, and run this again")
    scores = dae_ssl.scores(cell, store)
    print(f"rotations: {100 * scores['logistic_test_accuracy']:.1f} % of the test digits, by logistic regression")


if __name__ == "__main__":
    main(*sys.argv[1:])
