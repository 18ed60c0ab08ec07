"""How much of the image should a view show? The published code's sweep of crop sizes."""

from dae_ssl.config import Views
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Curves, Experiment, Numbers, Row

ROWS = tuple(
    Row(f"{method}, {crop} pixels", {"method": settings, "views": {"crop": crop}},
        published if crop == Views.crop else None, at={"method": method, "crop": crop})
    for method, (settings, published) in METHODS.items() for crop in range(4, 33, 4)
)  # fmt: skip
EXHIBITS = (
    Curves(name="crop", title="Test accuracy by crop size", x="crop", x_label="side of the crop, pixels of 32",
           score="test_accuracy", lines="method"),
    Numbers(name="accuracies", title="Test accuracy by crop size"),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS)
