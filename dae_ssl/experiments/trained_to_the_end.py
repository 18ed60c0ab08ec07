"""Figure 10 again: which method is ahead, if every length is a run of its own that ends its own cosine schedule?

A checkpoint of an unfinished run still has a high learning rate, which makes it look worse than a short run is.
"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments import training_length
from dae_ssl.experiments.form import Claim, Experiment, Numbers, Row, Validation
from dae_ssl.experiments.training_length import DAE, SIMCLR, curves, row


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield a run of each length that the base keeps a checkpoint of; the longest is the base's own."""
    last = base.optimisation.epochs
    for method in (DAE, SIMCLR):
        for epoch in base.optimisation.kept_epochs():
            length = {} if epoch == last else {"optimisation": {"epochs": epoch, "checkpoints": []}}
            yield row(method, epoch, length, base)


EXHIBITS = (
    curves("Test accuracy by length of a run of its own"),
    Numbers(name="accuracies", title="Test accuracy by length"),
)


def claims(base: Cell) -> Iterator[Claim]:
    """Yield the claims of Figure 10, of these runs."""
    return training_length.claims(base, "Figure 10, otherwise")


EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=claims)
