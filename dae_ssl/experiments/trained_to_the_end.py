"""Figure 10 again: which method is ahead if every length is a separate run with a complete cosine schedule?

At a checkpoint within a long run the learning rate is still high, so the checkpoint looks worse than a short run.
"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments import training_length
from dae_ssl.experiments.form import Claim, Experiment, Numbers, Row, Validation
from dae_ssl.experiments.training_length import DAE, SIMCLR, curves, row


def rows(base: Cell, _validation: Validation) -> Iterator[Row]:
    """Yield a run for each epoch at which the base keeps a checkpoint; the longest run is the base's."""
    last = base.optimisation.epochs
    for method in (DAE, SIMCLR):
        for epoch in base.optimisation.kept_epochs():
            length = {} if epoch == last else {"optimisation": {"epochs": epoch, "checkpoints": []}}
            yield row(method, epoch, length, base)


EXHIBITS = (
    curves("Test accuracy by length of a complete run"),
    Numbers(name="accuracies", title="Test accuracy by length"),
)


def claims(base: Cell) -> Iterator[Claim]:
    """Yield the claims of Figure 10 for these runs."""
    return training_length.claims(base, "Figure 10, complete runs")


EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=claims)
