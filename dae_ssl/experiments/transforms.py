"""Which of the random transforms does a method need? Each is left out alone; those that the study omits are added."""

from dae_ssl.experiments.as_published_code import AS_WRITTEN
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Effects, Experiment, Numbers, Row, Settings

CHANGES: dict[str, Settings] = {
    AS_WRITTEN: {},
    "without crop": {"crop": 32},
    "without flip": {"flip": 0.0},
    "without colour jitter": {"jitter": 0.0},
    "with blur": {"blur_kernel": 3},
    "with solarize": {"solarize": 0.2},
    "with blur and solarize": {"blur_kernel": 3, "solarize": 0.2},
    "crop alone": {"flip": 0.0, "jitter": 0.0},
}
"""Changes of the views; the published code adds one transform after another, which the last ones follow."""

ROWS = tuple(
    Row(f"{method}: {change}", {"method": settings, "views": views}, published if change == AS_WRITTEN else None,
        at={"method": method, "change": change})
    for method, (settings, published) in METHODS.items() for change, views in CHANGES.items()
)  # fmt: skip
EXHIBITS = (
    Effects(name="effects", title="What each transform does to test accuracy", of="change", within="method",
            start=AS_WRITTEN),
    Numbers(name="accuracies", title="Test accuracy by transforms"),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS)
