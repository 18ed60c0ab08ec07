"""An embedding loss of one's own, registered from outside the package, in a cell that is computed with it.

    python own_loss.py [STORE]           half a minute on one core; a second time nothing is computed

The loss is the smooth L1 (Huber) distance between the embeddings of an image's two views. The function's name becomes
a value of `method.embedding`, for every method that has one, and a part of the cell's key: a name stands for one
computation, so give a changed loss another name.

What computes sits below `if __name__ == "__main__":`, because the processes that compute a cell import this script.
"""

import sys
from typing import Any

from torch import Tensor
from torch.nn import functional

import dae_ssl
from dae_ssl.data.prepare import prepare
from dae_ssl.training.losses import embedding

SMALL: dict[str, Any] = {
    "data": {"pretrain": "digits", "evaluate": "digits", "pretrain_images": 256, "evaluate_images": 400,
             "validation_images": 100},
    "views": {"flip": 0, "crop": 24},
    "optimisation": {"epochs": 1, "batch_size": 32, "learning_rate": 0.001},
    "probe": {"epochs": 30},
    "kmeans": {"restarts": 1},
}  # fmt: skip


@embedding()
def huber(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the smooth L1 distance of each pair of embeddings, (n, d) and (n, d) -> (n,)."""
    return functional.smooth_l1_loss(z1, z2, reduction="none", beta=0.1).mean(1)


def main(store: str = "store") -> None:
    """Compute a cell with the loss, and print what its encoder is worth."""
    prepare(dae_ssl.Store.of(store), "digits", "digits")
    cell = dae_ssl.cell(method="dae", embedding="huber", alpha=1, **SMALL)
    if dae_ssl.run(cell, store).left:
        raise SystemExit("not everything was computed: see the lines above, and run this again")
    scores = dae_ssl.scores(cell, store)
    print(f"dae with huber: {100 * scores['logistic_test_accuracy']:.1f} % of the test digits, by logistic regression")


if __name__ == "__main__":
    main(*sys.argv[1:])
