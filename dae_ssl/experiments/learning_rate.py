"""Which learning rate does each method need? This is the published code's sweep, judged by validation accuracy."""

from dae_ssl.config import Optimisation
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Curves, Experiment, Numbers, Row

RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

ROWS = tuple(
    Row(f"{method}, learning rate {rate:g}", {"method": settings, "optimisation": {"learning_rate": rate}},
        published if rate == Optimisation.learning_rate else None, at={"method": method, "rate": rate})
    for method, (settings, published) in METHODS.items() for rate in RATES
)  # fmt: skip
EXHIBITS = (
    Curves(name="rate", title="Validation accuracy by learning rate", x="rate", x_label="learning rate of Adam",
           score="validation_accuracy", lines="method", logarithmic=True),
    Numbers(name="accuracies", title="Accuracy by learning rate", scores=("validation_accuracy", "test_accuracy")),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS)
