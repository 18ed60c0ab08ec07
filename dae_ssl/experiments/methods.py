"""Table 2: which embedding loss, with a weight chosen on validation, is best, and does it match SimCLR?"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments.embedding_loss import KINDS, LOSSES, grid, key, label, settings
from dae_ssl.experiments.form import Claim, Experiment, Numbers, Row, Validation, beats
from dae_ssl.experiments.published import CHOSEN, PLAIN, SIMCLR, Published, difference


def rows(_base: Cell, validation: Validation) -> Iterator[Row]:
    """Yield the rows of the table with α chosen on validation here, then those with the α that the study chose."""
    yield Row("SimCLR", {"method": {"name": "simclr"}}, SIMCLR, key="simclr")
    for kind in reversed(KINDS):
        yield Row(f"{kind}, no embedding loss", settings(kind), PLAIN[kind], key=key(kind))
        for loss in LOSSES:
            yield Row(f"{kind}, {loss}", published=CHOSEN[kind, loss].accuracy, key=key(kind, loss),
                      among=tuple(grid(kind, loss, validation)))  # fmt: skip
    for (kind, loss), chosen in CHOSEN.items():
        yield Row(f"{label(kind, loss, chosen.alpha)}, the study's", settings(kind, loss, chosen.alpha),
                  chosen.accuracy)  # fmt: skip


EXHIBITS = (
    Numbers(
        name="table-2", title="Table 2: linear evaluation on CIFAR-10 test, top-1",
        note="Rows without an α correspond to the study's table: α has the best validation accuracy among those of "
             "Figure 6, and is given in the row. The last six rows have the α that the study chose.",
    ),
)  # fmt: skip


def _gain(kind: str, loss: str) -> Published:
    """Return the published gain of an embedding loss over no embedding loss."""
    return difference(CHOSEN[kind, loss].accuracy, PLAIN[kind])


def _denoising(loss: str) -> Published:
    """Return the published gain of the DAE over the AE with the same loss, in points with one decimal."""
    return difference(CHOSEN["DAE", loss].accuracy, CHOSEN["AE", loss].accuracy, digits=1)


def _best_by_a_small_margin(other: str) -> Claim:
    return beats(key("DAE", "NCS"), key("DAE", other), f"NCS is best by a small margin: above {other} by under 1 point",
                 "Figure 6", below=1.0,
                 published=difference(CHOSEN["DAE", "NCS"].accuracy, CHOSEN["DAE", other].accuracy, digits=1),
                 )  # fmt: skip


CLAIMS = (
    *(beats(key("DAE", loss), key("DAE"), f"{loss} improves the DAE", "Table 2", published=_gain("DAE", loss))
      for loss in LOSSES),
    *(beats(key("AE", loss), key("AE"), f"{loss} gains little on the AE: under 2 points", "Table 2",
            above=-2.0, below=2.0, published=_gain("AE", loss)) for loss in LOSSES),
    _best_by_a_small_margin("L1"),
    _best_by_a_small_margin("L2"),
    beats("simclr", key("DAE", "NCS"), "SimCLR leads the best DAE", "Table 2",
          published=difference(SIMCLR, CHOSEN["DAE", "NCS"].accuracy)),
    Claim(words="Denoising helps with every embedding loss: the smallest of its three gains", source="Table 2",
          rows=tuple(key(kind, loss) for kind in KINDS for loss in LOSSES),
          value=lambda scores: min(scores[key("DAE", loss)] - scores[key("AE", loss)] for loss in LOSSES),
          published=min(map(_denoising, LOSSES))),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=CLAIMS)
