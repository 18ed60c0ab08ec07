"""Figure 10: which method is ahead after how much pretraining, by the checkpoints of one run?"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Claim, Curves, Numbers, Row, Validation, beats

DAE, SIMCLR = "DAE-L2", "SimCLR"


def label(method: str, epoch: int) -> str:
    """Return what people call it."""
    return f"{method}, {epoch} epochs"


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield each kept checkpoint of both methods; those of the study are at 10, 25, 50, ..., 300 epochs."""
    last = base.optimisation.epochs
    for method in (DAE, SIMCLR):
        own, published = METHODS[method]
        for epoch in base.optimisation.kept_epochs():
            wanted = {"method": own, "features": {"epoch": epoch if epoch < last else None}}
            yield Row(label(method, epoch), wanted, published if epoch == last else None,
                      at={"method": method, "epochs": epoch})  # fmt: skip


def curves(title: str) -> Curves:
    """Return the figure, which its two experiments have alike."""
    return Curves(name="length", title=title, x="epochs", x_label="pretraining, epochs", score="test_accuracy",
                  lines="method")  # fmt: skip


EXHIBITS = (
    curves("Figure 10: test accuracy by checkpoint of one run"),
    Numbers(name="accuracies", title="Test accuracy by checkpoint"),
)


def claims(base: Cell, source: str = "Figure 10") -> Iterator[Claim]:
    """Yield that the DAE leads after a sixth and a third of the run, 50 and 100 epochs in the study, SimCLR at last."""
    epochs = base.optimisation.epochs
    for epoch in base.optimisation.kept_epochs():
        if epochs / 6 <= epoch <= epochs / 3:
            yield beats(label(DAE, epoch), label(SIMCLR, epoch), f"DAE-L2 leads at {epoch} epochs", source)
    yield beats(label(SIMCLR, epochs), label(DAE, epochs), f"SimCLR leads at {epochs} epochs", source,
                published=2.6)  # fmt: skip
