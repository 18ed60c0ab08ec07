"""The figures that tables and drawings show: what they are called, their unit, and where a cell has them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dae_ssl.report.findings import Findings
from dae_ssl.training.networks import REPRESENTATION_SIZE

CONVERGED = 0.99
"""Share of its final accuracy at which a probe counts as converged."""


@dataclass(frozen=True)
class Measure:
    """How a figure is told."""

    title: str
    unit: str = ""
    percent: bool = False
    """Kept as a share, shown in percent."""
    digits: int = 2

    @property
    def axis(self) -> str:
        """Its title with its unit, as beside an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def told(self, value: float) -> str:
        """Return a value, scaled as it is shown."""
        return f"{value:.{self.digits}f}"


def _accuracy(title: str) -> Measure:
    return Measure(title, "%", percent=True)


MEASURES: Mapping[str, Measure] = {
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


def measure(name: str) -> Measure:
    """Return how a figure is told; one that has no words of its own under its own name."""
    return MEASURES.get(name, Measure(name.replace("_", " "), digits=4))


def value(found: Findings, name: str) -> float | None:
    """Return a cell's figure as it is shown, accuracies in percent; None where it is not there."""
    derived = DERIVED.get(name)
    known = derived(found) if derived else found.figures.get(name)
    if known is None:
        return None
    return 100 * known if measure(name).percent else known


def _last(term: str) -> Callable[[Findings], float | None]:
    """Return what gives a term's value in the last epoch of a pretraining that is done."""

    def last(found: Findings) -> float | None:
        points = found.curves("pretrain").get(term, [])
        return points[-1][1] if points and "pretrain" in found.records else None

    return last


def _inertia_per_feature(found: Findings) -> float | None:
    inertia = found.figures.get("kmeans_standardised_inertia")
    size = REPRESENTATION_SIZE if found.cell.method.has_encoder else found.image_size
    return None if inertia is None or size == 0 else inertia / size


def _epochs_to_converge(found: Findings) -> float | None:
    """Return after how many probe epochs validation accuracy first was nearly what it is at the end."""
    if "probe" not in found.records:
        return None
    curve = next(iter(found.validation_curves().values()), [])
    return next((float(epoch) for epoch, share in curve if share >= CONVERGED * curve[-1][1]), None)


DERIVED: Mapping[str, Callable[[Findings], float | None]] = {
    "final_reconstruction": _last("reconstruction"),
    "final_embedding": _last("embedding"),
    "kmeans_standardised_inertia_per_feature": _inertia_per_feature,
    "probe_epochs_to_converge": _epochs_to_converge,
}
"""Figures that no record has, but a log or another figure."""
