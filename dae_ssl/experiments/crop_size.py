"""How much of the image should a view show? The published code's sweep of crop sizes."""

from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Curves, Numbers, Row

ROWS = tuple(
    Row(f"{method}, {crop} pixels", {"method": own, "views": {"crop": crop}}, published if crop == 28 else None,
        at={"method": method, "crop": crop})
    for method, (own, published) in METHODS.items() for crop in range(4, 33, 4)
)  # fmt: skip
EXHIBITS = (
    Curves(name="crop", title="Test accuracy by crop size", x="crop", x_label="side of the crop, pixels of 32",
           score="test_accuracy", lines="method"),
    Numbers(name="accuracies", title="Test accuracy by crop size"),
)  # fmt: skip
