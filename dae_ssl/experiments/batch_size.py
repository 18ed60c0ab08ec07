"""Does the DAE depend less on the batch size than SimCLR, if the learning rate is adapted to the batch size?

This is the study's first open question (section 4.4). Larger batches mean fewer steps, so the learning rate is kept
constant, scaled with the batch size, and scaled with its square root.
"""

import math
from collections.abc import Callable, Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Claim, Curves, Experiment, Numbers, Row, Validation

FACTORS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)
"""Batch sizes as multiples of the base's batch size: from 32 to 1,024 images in the study."""
RULES: dict[str, Callable[[float], float]] = {
    "rate held": lambda _factor: 1.0,
    "rate scaled linearly": lambda factor: factor,
    "rate scaled by square root": math.sqrt,
}


def key(method: str, batch: int, rule: str) -> str:
    """Return the key by which claims name a row."""
    return f"{method}-{batch}-{rule}"


def _batches(base: Cell) -> dict[float, int]:
    """Return the batch size, at least 2, of each factor; of factors that give the same size, only of the largest."""
    sizes = {max(2, round(base.optimisation.batch_size * factor)): factor for factor in FACTORS}
    return {factor: batch for batch, factor in sizes.items()}


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield a row for every method, batch size and rule; at the base's batch size the rules agree."""
    for method, (settings, _) in METHODS.items():
        for rule, scaled in RULES.items():
            for factor, batch in _batches(base).items():
                rate = float(f"{base.optimisation.learning_rate * scaled(factor):.6g}")
                yield Row(
                    f"{method}, batch {batch}, {rule}",
                    {"method": settings, "optimisation": {"batch_size": batch, "learning_rate": rate}},
                    at={"method": method, "rule": rule, "batch": batch},
                    key=key(method, batch, rule),
                )


EXHIBITS = (
    Curves(name="batch", title="Test accuracy by batch size", x="batch", x_label="images in a batch",
           score="test_accuracy", lines="method", panels="rule", logarithmic=True),
    Numbers(name="accuracies", title="Test accuracy by batch size", scores=("test_accuracy",)),
)  # fmt: skip


def claims(base: Cell) -> Iterator[Claim]:
    """Yield for each rule the claim that SimCLR loses more than DAE-L2 from the usual batch size to the smallest."""
    batches = _batches(base)
    small, usual = min(batches.values()), batches[1]
    for rule in RULES if small < usual else ():
        weights = {key("SimCLR", usual, rule): 1.0, key("SimCLR", small, rule): -1.0,
                   key("DAE-L2", usual, rule): -1.0, key("DAE-L2", small, rule): 1.0}  # fmt: skip
        yield Claim(words=f"From batch {usual} to {small} SimCLR loses more than DAE-L2, {rule}", weights=weights,
                    source="section 4.4, open")  # fmt: skip


EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=claims)
