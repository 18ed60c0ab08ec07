"""Where a cell has the figures that tables and drawings show."""

from collections.abc import Callable, Mapping

from dae_ssl.experiments.form import SCORES, Measure
from dae_ssl.report.findings import Findings
from dae_ssl.training.networks import REPRESENTATION_SIZE

CONVERGED = 0.99
"""Share of its final accuracy at which a probe counts as converged."""


def measure(name: str) -> Measure:
    """Return how a figure is told."""
    return SCORES[name]


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
