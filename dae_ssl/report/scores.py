"""Find the value of each named score in a cell: in a commit record, or computed from a log or other scores."""

from collections.abc import Callable, Mapping

from dae_ssl.experiments.form import SCORES, Measure
from dae_ssl.report.findings import Findings
from dae_ssl.training.networks import REPRESENTATION_SIZE

CLASSIFIERS = {"test_accuracy": "probe", "logistic_test_accuracy": "logistic"}
"""The accuracies for which the store has the result on each test image, and their classifiers."""
CONVERGED = 0.99
"""The share of its final accuracy at which a probe counts as converged."""


def measure(name: str) -> Measure:
    """Return how a score is written."""
    return SCORES[name]


def score(findings: Findings, name: str) -> float | None:
    """Return a cell's score as it is shown, with accuracies in percent, or None if the cell does not have it."""
    derived = DERIVED.get(name)
    kept = derived(findings) if derived else findings.scores.get(name)
    if kept is None:
        return None
    return 100 * kept if measure(name).percent else kept


def _last(term: str) -> Callable[[Findings], float | None]:
    """Return a function that gives the value of a term in the last epoch of a finished pretraining."""

    def last(findings: Findings) -> float | None:
        points = findings.curves("pretrain").get(term, [])
        return points[-1][1] if points and "pretrain" in findings.records else None

    return last


def _inertia_per_feature(findings: Findings) -> float | None:
    inertia = findings.scores.get("kmeans_standardised_inertia")
    size = REPRESENTATION_SIZE if findings.cell.method.has_encoder else findings.image_size
    return None if inertia is None or size == 0 else inertia / size


def _epochs_to_converge(findings: Findings) -> float | None:
    """Return the first probe epoch at which validation accuracy reaches CONVERGED times its final value."""
    if "probe" not in findings.records:
        return None
    curve = next(iter(findings.validation_curves().values()), [])
    return next((float(epoch) for epoch, share in curve if share >= CONVERGED * curve[-1][1]), None)


DERIVED: Mapping[str, Callable[[Findings], float | None]] = {
    "final_reconstruction": _last("reconstruction"),
    "final_embedding": _last("embedding"),
    "kmeans_standardised_inertia_per_feature": _inertia_per_feature,
    "probe_epochs_to_converge": _epochs_to_converge,
}
"""The scores that are computed from a log or another score."""
