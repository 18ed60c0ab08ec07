"""The published code deviates from the paper's text: which of the deviations move the accuracy, and by how much?

Each deviation is applied alone to the study as written, and then all of them together. They may explain differences
from Table 2.
"""

from collections.abc import Iterator
from typing import Any

from dae_ssl.config import Cell
from dae_ssl.experiments.form import Effects, Experiment, Numbers, Row, Validation, merged
from dae_ssl.experiments.published import CHOSEN

AS_WRITTEN, EVERYTHING = "as written", "everything"
METHODS: dict[str, dict[str, Any]] = {
    "SimCLR": {"name": "simclr"},
    "AE": {"name": "ae"},
    "DAE": {"name": "dae"},
    "DAE, L2, α = 1": {"name": "dae", "embedding": "l2", "alpha": CHOSEN["DAE", "L2"].alpha},
    "DAE, NCS, α = 10": {"name": "dae", "embedding": "ncs", "alpha": CHOSEN["DAE", "NCS"].alpha},
}
LOSSES = {
    "SimCLR": {"contrast": "published_contrast"},
    "DAE, NCS, α = 10": {"embedding": "repelling_cosine"},
}
"""The loss of the published code for each method whose loss it computes differently."""


def changes(method: str, base: Cell) -> dict[str, dict[str, Any]]:
    """Return the deviations of the published code by name; numbers of epochs are scaled with those of the base."""
    optimisation = base.optimisation
    epochs = max(1, round(optimisation.epochs * 200 / 300))
    kept = [epoch for epoch in optimisation.checkpoints if epoch <= epochs]
    alone: dict[str, dict[str, Any]] = {
        "frozen views": {"views": {"frozen": True}},
        "crop 24": {"views": {"crop": 24}},
        "no schedule": {"optimisation": {"schedule": "constant"}},
        "200 and 150 epochs": {
            "optimisation": {"epochs": epochs, "checkpoints": kept},
            "probe": {"epochs": max(1, round(base.probe.epochs * 150 / 200))},
        },
    }
    if method in LOSSES:
        alone["the code's loss"] = {"method": LOSSES[method]}
    return alone


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield each method as written, with each change alone, and with all changes."""
    for name, method in METHODS.items():
        alone = changes(name, base)
        together: dict[str, Any] = {}
        for settings in alone.values():
            together = merged(together, settings)
        for words, settings in {AS_WRITTEN: {}, **alone, EVERYTHING: together}.items():
            yield Row(f"{name}: {words}", merged({"method": method}, settings), at={"method": name, "change": words})


EXHIBITS = (
    Effects(name="effects", title="What each change does to test accuracy", of="change", within="method",
            start=AS_WRITTEN),
    Numbers(name="accuracies", title="Test accuracy with each change"),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS)
