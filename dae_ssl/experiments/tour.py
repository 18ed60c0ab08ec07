"""A tour on embedded digits: does an embedding loss help the denoising autoencoder? In minutes, on any machine."""

from typing import Any

from dae_ssl.experiments.row import Row

SMALL: dict[str, Any] = {
    "data": {"pretrain": "digits", "evaluate": "digits", "validation_images": 297},
    "views": {"flip": 0.0, "crop": 24},  # digits are not mirrored
    "optimisation": {"epochs": 4, "batch_size": 64, "learning_rate": 1e-3, "checkpoints": [1, 2]},
    "probe": {"epochs": 60},
    "kmeans": {"restarts": 3},
}

ROWS = (
    Row("DAE, no embedding loss", SMALL | {"method": {"name": "dae"}}),
    Row("DAE, L2, α = 1", SMALL | {"method": {"name": "dae", "embedding": "l2", "alpha": 1.0}}),
    Row("SimCLR", SMALL | {"method": {"name": "simclr"}}),
)
