"""Table 2: which embedding loss, at the weight that validation chooses, represents best, and is it SimCLR's equal?"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments.embedding_loss import KINDS, LOSSES, grid, label, settings
from dae_ssl.experiments.form import Claim, Numbers, Row, Validation, beats

SIMCLR = 69.7
PLAIN = {"AE": 61.2, "DAE": 65.9}
PUBLISHED = {
    ("AE", "L1"): (0.01, 62.0),
    ("AE", "L2"): (0.0001, 62.1),
    ("AE", "NCS"): (0.001, 62.6),
    ("DAE", "L1"): (0.1, 67.1),
    ("DAE", "L2"): (1.0, 67.1),
    ("DAE", "NCS"): (10.0, 67.3),
}
"""The weight that the study chose on its validation split, and the test accuracy in percent."""


def rows(_base: Cell, validation: Validation) -> Iterator[Row]:
    """Yield the nine rows of the table, α chosen anew on validation, then those with an α at the study's."""
    yield Row("SimCLR", {"method": {"name": "simclr"}}, SIMCLR)
    for kind in reversed(KINDS):
        yield Row(f"{kind}, no embedding loss", settings(kind), PLAIN[kind])
        for loss in LOSSES:
            _, accuracy = PUBLISHED[kind, loss]
            yield Row(f"{kind}, {loss}", published=accuracy, among=tuple(grid(kind, loss, validation)))
    for (kind, loss), (alpha, accuracy) in PUBLISHED.items():
        yield Row(f"{label(kind, loss, alpha)}, the study's", settings(kind, loss, alpha), accuracy)


EXHIBITS = (
    Numbers(
        name="table-2", title="Table 2: linear evaluation on CIFAR-10 test, top-1",
        note="Rows without an α, as the study's table has them: α is the one with the best validation accuracy among "
             "those of Figure 6, and is named beside the row. The last six rows are at the α that the study chose.",
    ),
)  # fmt: skip
CLAIMS = (
    *(beats(f"DAE, {loss}", "DAE, no embedding loss", f"{loss} improves the DAE", "Table 2",
            published=PUBLISHED["DAE", loss][1] - PLAIN["DAE"]) for loss in LOSSES),
    *(beats(f"AE, {loss}", "AE, no embedding loss", f"{loss} gains little on the AE: under 2 points", "Table 2",
            above=-2.0, below=2.0, published=PUBLISHED["AE", loss][1] - PLAIN["AE"]) for loss in LOSSES),
    beats("DAE, NCS", "DAE, L1", "NCS is best by a small margin: over L1, under 1 point", "Figure 6", below=1.0,
          published=0.2),
    beats("DAE, NCS", "DAE, L2", "NCS is best by a small margin: over L2, under 1 point", "Figure 6", below=1.0,
          published=0.2),
    beats("SimCLR", "DAE, NCS", "SimCLR leads the best DAE", "Table 2", published=SIMCLR - 67.3),
    Claim(words="Denoising helps under every embedding loss: the least of its three gains", source="Table 2",
          rows=tuple(f"{kind}, {loss}" for kind in KINDS for loss in LOSSES),
          value=lambda scores: min(scores[f"DAE, {loss}"] - scores[f"AE, {loss}"] for loss in LOSSES),
          published=4.7),
)  # fmt: skip
