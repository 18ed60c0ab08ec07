"""Figure 10: which method is ahead after how much pretraining, at the checkpoints of one run?"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments.augmentation_strength import METHODS
from dae_ssl.experiments.form import Claim, Curves, Experiment, Numbers, Row, Settings, Validation, beats
from dae_ssl.experiments.published import difference

DAE, SIMCLR = "DAE-L2", "SimCLR"


def key(method: str, epoch: int) -> str:
    """Return the key by which claims name a row."""
    return f"{method}-{epoch}"


def row(method: str, epoch: int, length: Settings, base: Cell) -> Row:
    """Return the row of a method after some epochs, with settings `length`; only the base's last epoch is published."""
    settings, published = METHODS[method]
    known = published if epoch == base.optimisation.epochs else None
    return Row(f"{method}, {epoch} epochs", {"method": settings, **length}, known,
               at={"method": method, "epochs": epoch}, key=key(method, epoch))  # fmt: skip


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield a row for each kept checkpoint of both methods; the study keeps them at 10, 25, 50, ..., 300 epochs."""
    last = base.optimisation.epochs
    for method in (DAE, SIMCLR):
        for epoch in base.optimisation.kept_epochs():
            yield row(method, epoch, {"features": {"epoch": epoch if epoch < last else None}}, base)


def curves(title: str) -> Curves:
    """Return the figure that the two experiments on training length share."""
    return Curves(name="length", title=title, x="epochs", x_label="pretraining, epochs", score="test_accuracy",
                  lines="method")  # fmt: skip


EXHIBITS = (
    curves("Figure 10: test accuracy by checkpoint of one run"),
    Numbers(name="accuracies", title="Test accuracy by checkpoint"),
)


def claims(base: Cell, source: str = "Figure 10") -> Iterator[Claim]:
    """Yield the claims: the DAE leads after a sixth and a third of the run (50 and 100 epochs), SimCLR at the end."""
    epochs = base.optimisation.epochs
    for epoch in base.optimisation.kept_epochs():
        if epochs / 6 <= epoch <= epochs / 3:
            yield beats(key(DAE, epoch), key(SIMCLR, epoch), f"DAE-L2 leads at epoch {epoch}", source)
    (_, simclr), (_, dae) = METHODS[SIMCLR], METHODS[DAE]
    yield beats(key(SIMCLR, epochs), key(DAE, epochs), f"SimCLR leads at the end, after epoch {epochs}", source,
                published=difference(simclr, dae, digits=1))  # fmt: skip


EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=claims)
