"""Does the DAE depend less on the batch size than SimCLR, once the learning rate is not what differs?

The study's first open question (section 4.4): more images in a batch are fewer steps, so the learning rate is held,
scaled with the batch, and scaled with its square root.
"""

import math
from collections.abc import Callable, Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Claim, Curves, Numbers, Row, Validation

FACTORS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)
"""Of the base's batch size: 32 to 1024 images in the study."""
RULES: dict[str, Callable[[float], float]] = {
    "rate held": lambda _factor: 1.0,
    "rate scaled linearly": lambda factor: factor,
    "rate scaled by square root": math.sqrt,
}


def label(method: str, batch: int, rule: str) -> str:
    """Return what people call it."""
    return f"{method}, batch {batch}, {rule}"


def _batches(base: Cell) -> dict[float, int]:
    return {factor: max(2, round(base.optimisation.batch_size * factor)) for factor in FACTORS}


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield every method, batch size and rule; at the base's batch size the rules agree."""
    for method, (own, _) in METHODS.items():
        for rule, scaled in RULES.items():
            for factor, batch in _batches(base).items():
                rate = float(f"{base.optimisation.learning_rate * scaled(factor):.6g}")
                wanted = {"method": own, "optimisation": {"batch_size": batch, "learning_rate": rate}}
                yield Row(label(method, batch, rule), wanted, at={"method": method, "rule": rule, "batch": batch})


EXHIBITS = (
    Curves(name="batch", title="Test accuracy by batch size", x="batch", x_label="images in a batch",
           score="test_accuracy", lines="method", panels="rule", logarithmic=True),
    Numbers(name="accuracies", title="Test accuracy by batch size", scores=("test_accuracy",)),
)  # fmt: skip


def claims(base: Cell) -> Iterator[Claim]:
    """Yield, for each rule, that SimCLR loses more than DAE-L2 from its usual batch size to the smallest."""
    small, usual = (_batches(base)[factor] for factor in (FACTORS[0], 1))
    for rule in RULES:
        weights = {label("SimCLR", usual, rule): 1.0, label("SimCLR", small, rule): -1.0,
                   label("DAE-L2", usual, rule): -1.0, label("DAE-L2", small, rule): 1.0}  # fmt: skip
        yield Claim(words=f"From batch {usual} to {small} SimCLR loses more than DAE-L2, {rule}", weights=weights,
                    source="section 4.4, open")  # fmt: skip
