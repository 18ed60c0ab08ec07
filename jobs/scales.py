"""Settings that go together under a name: `--scale demo`, `--variant published_code`.

`jobs.settings` makes them options of Hydra; settings given beside them come after them.
"""

from collections.abc import Mapping
from typing import Any

from dae_ssl.config import ConfigError, closest
from dae_ssl.experiments import merged

Settings = Mapping[str, Any]

# The smallest cell that does all that a cell does, on a CPU in half a minute: to see that an installation works.
MINIATURE: Settings = {
    "data": {"pretrain": "digits", "evaluate": "digits", "validation_images": 1000},
    "views": {"flip": 0.0, "crop": 24},
    "optimisation": {"epochs": 1, "batch_size": 64, "learning_rate": 0.001, "checkpoints": []},
    "probe": {"epochs": 5},
    "kmeans": {"restarts": 1},
}

# Patches of scikit-image's photographs, small enough for two CPU cores: `make demo`. A few hundred steps need a larger
# learning rate than the study's.
DEMO: Settings = {
    "data": {"pretrain": "photographs", "evaluate": "photographs", "validation_images": 360},
    "optimisation": {"epochs": 9, "batch_size": 64, "learning_rate": 0.001, "checkpoints": [1, 3, 6]},
    "probe": {"epochs": 60},
    "kmeans": {"clusters": 12, "restarts": 3},
}

# The reduced study: every experiment on real CIFAR, a cell in minutes on a CPU. It shows that the whole path works, and
# what of the study's claims in words already shows; its numbers are not the study's. It has a hundredth of the study's
# steps, which need a larger learning rate, and sees a 750th of its images.
SMALL: Settings = {
    "data": {"pretrain_images": 4000, "evaluate_images": 13000},
    "optimisation": {"epochs": 5, "batch_size": 64, "learning_rate": 0.001, "checkpoints": [1, 2, 3, 4]},
    "probe": {"epochs": 60},
    "kmeans": {"restarts": 2},
}

# The study on all of its images, for 4 of its 300 epochs: a cell in minutes to half an hour on a CPU. So few steps need
# a larger learning rate and smaller batches.
SHORT: Settings = {
    "optimisation": {"epochs": 4, "batch_size": 128, "learning_rate": 0.001, "checkpoints": [1, 2, 3]},
}

# The published code's choices where it disagrees with the text, but for the losses, which are named with the method:
# method.embedding=repelling_cosine, method.contrast=published_contrast.
PUBLISHED_CODE: Settings = {
    "views": {"frozen": True, "crop": 24},
    "optimisation": {"schedule": "constant", "epochs": 200},
    "probe": {"epochs": 150},
}

GROUPS: Mapping[str, Mapping[str, Settings]] = {
    "scale": {"demo": DEMO, "miniature": MINIATURE, "short": SHORT, "small": SMALL},
    "variant": {"published_code": PUBLISHED_CODE},
}


def chosen(group: str, name: object) -> Settings:
    """Return the settings of a name in a group. Raises ConfigError for a name that is not in it."""
    known = GROUPS[group]
    if str(name) not in known:
        raise ConfigError(f"--{group}={name!r}: {closest(name, known)}choose {', '.join(known)}")
    return known[str(name)]


def settings(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the scale and the variant that are named, where they are; those of the variant prevail."""
    found: dict[str, Any] = {}
    for group in GROUPS:
        if named.get(group) is not None:
            found = merged(found, chosen(group, named[group]))
    return found
