"""Every score that tables, figures and claims can name, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a score is written."""

    title: str
    unit: str = ""
    percent: bool = False
    """Whether it is stored as a share and shown in percent."""
    digits: int = 2

    @property
    def axis(self) -> str:
        """The title with the unit, as the label of an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float) -> str:
        """Return a value as text; it must be scaled as it is shown."""
        return f"{value:.{self.digits}f}"


def _accuracy(title: str) -> Measure:
    return Measure(title, "%", percent=True)


SCORES: Mapping[str, Measure] = {
    "test_accuracy": _accuracy("test accuracy, top-1"),
    "logistic_test_accuracy": _accuracy("test accuracy, L-BFGS"),
    "validation_accuracy": _accuracy("validation accuracy, top-1"),
    "kmeans_matched_accuracy": _accuracy("k-means, matched accuracy"),
    "kmeans_inertia": Measure("k-means, inertia per point", digits=3),
    "kmeans_nmi": Measure("k-means, NMI", digits=4),
    "kmeans_ari": Measure("k-means, ARI", digits=4),
    "kmeans_standardised_inertia_per_feature": Measure("standardised: inertia per point and feature", digits=4),
    "kmeans_standardised_nmi": Measure("standardised: NMI", digits=4),
    "kmeans_standardised_ari": Measure("standardised: ARI", digits=4),
    "kmeans_standardised_matched_accuracy": _accuracy("standardised: matched accuracy"),
    "final_reconstruction": Measure("reconstruction term", digits=5),
    "final_embedding": Measure("embedding term, unweighed", digits=5),
    "probe_epochs_to_converge": Measure("probe epochs to 99 % of final accuracy", digits=1),
} | {
    f"reconstruction_{name}_{to}": Measure(f"{title}, {words}", unit, digits=digits)
    for to, words in {
        "to_view": "to the view", "to_clean": "to the clean image", "view_to_clean": "view to clean image",
    }.items()
    for name, (title, unit, digits) in {
        "psnr": ("PSNR", "dB", 2), "ssim": ("SSIM", "", 3), "offset": ("offset", "pixels", 2),
        "sharpness": ("sharpness", "", 3),
    }.items()
}  # fmt: skip
"""Every score by its name; `report` finds its value in a cell."""
