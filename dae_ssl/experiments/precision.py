"""Does the precision of pretraining (fp32, tf32 or bf16) matter for the accuracy?

The same cells are pretrained in each precision, with the same seed and so the same initial weights and views.
"""

from dae_ssl.experiments.augmentation_strength import METHODS as SETTINGS
from dae_ssl.experiments.form import Claim, Effects, Experiment, Numbers, ProbeCurves, Row, beats

USUAL, OTHERS = "fp32", ("tf32", "bf16")
METHODS = {name: SETTINGS[name] for name in ("DAE-L2", "SimCLR")}
POINTS = 1.0
"""The difference that counts as small: the embedding losses gain 1.2 points and more on the DAE. With 10,000 test
images the interval of a difference of two cells reaches at least half a point to either side, so one seed could not
show less."""


def key(method: str, precision: str) -> str:
    """Return the key by which claims name a row."""
    return f"{method}-{precision}"


ROWS = tuple(
    Row(f"{method}, {precision}", {"method": settings, "precision": precision}, published,
        at={"method": method, "precision": precision}, key=key(method, precision))
    for method, (settings, published) in METHODS.items() for precision in (USUAL, *OTHERS)
)  # fmt: skip
NOTE = (
    "On a CPU, and on GPUs without TensorFloat-32, tf32 is the same as fp32: both rows then have the same numbers, and "
    "their difference of 0 shows nothing."
)
EXHIBITS = (
    Numbers(
        name="accuracies", title="Accuracy, and the terms of the loss at the end of pretraining", note=NOTE,
        scores=("test_accuracy", "logistic_test_accuracy", "validation_accuracy", "final_reconstruction",
                 "final_embedding"),
    ),
    Effects(name="effects", title="What each precision does to test accuracy", of="precision", within="method",
            start=USUAL),
    ProbeCurves(name="probe", title="Validation accuracy while the probe learns"),
)  # fmt: skip


def _same(method: str, precision: str) -> Claim:
    return beats(key(method, precision), key(method, USUAL),
                 f"{method}: {precision} is within {POINTS:g} point of {USUAL}", "the suite", above=-POINTS,
                 below=POINTS)  # fmt: skip


CLAIMS = tuple(_same(method, precision) for method in METHODS for precision in OTHERS)
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS)
