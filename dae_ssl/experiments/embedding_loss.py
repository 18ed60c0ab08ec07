"""Figure 6: how does the weight of each embedding loss move validation accuracy, with and without denoising?"""

from collections.abc import Iterator
from typing import Any

from dae_ssl.config import Cell
from dae_ssl.experiments.form import BEST, Claim, Curves, Experiment, Row, Validation, extended

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
LOSSES = {"L1": "l1", "L2": "l2", "NCS": "ncs"}
KINDS = {"DAE": "dae", "AE": "ae"}


def settings(kind: str, loss: str | None = None, alpha: float = 0.0) -> dict[str, Any]:
    """Return the settings of a siamese autoencoder, given the study's names of its kind and its loss."""
    embedding = {} if loss is None else {"embedding": LOSSES[loss], "alpha": alpha}
    return {"method": {"name": KINDS[kind]} | embedding}


def key(kind: str, loss: str | None = None, alpha: float | None = None) -> str:
    """Return the key by which claims name a row; without an α it is the row whose α validation chooses."""
    return "-".join([kind, *([loss] if loss else []), *([] if alpha is None else [f"{alpha:g}"])]).lower()


def label(kind: str, loss: str, alpha: float) -> str:
    """Return the label of a row."""
    return f"{kind}, {loss}, α = {alpha:g}"


def grid(kind: str, loss: str, validation: Validation) -> list[Row]:
    """Return a row for each weight; the grid is extended while the best accuracy is at its edge."""
    alphas = extended(ALPHAS, lambda alpha: validation(settings(kind, loss, alpha)))
    return [
        Row(label(kind, loss, alpha), settings(kind, loss, alpha), at={"kind": kind, "loss": loss, "alpha": alpha},
            key=key(kind, loss, alpha), mark=f"{alpha:g}")
        for alpha in alphas
    ]  # fmt: skip


def rows(_base: Cell, validation: Validation) -> Iterator[Row]:
    """Yield each kind of autoencoder without an embedding loss, then the grid of every loss."""
    for kind in KINDS:
        yield Row(f"{kind}, no embedding loss", settings(kind), at={"kind": kind}, key=key(kind))
        for loss in LOSSES:
            yield from grid(kind, loss, validation)


EXHIBITS = (
    Curves(
        name="alpha", title="Validation accuracy against the weight of the embedding loss", x="alpha", x_label="α",
        score="validation_accuracy", lines="loss", panels="kind", logarithmic=True,
        note="Dotted line: no embedding loss. The validation images are 5,000 images of the training split, so that α "
             "is chosen without the test images. If the best α is at the edge of the grid, the grid is extended.",
    ),
)  # fmt: skip


def _gain(kind: str, loss: str) -> Claim:
    rises = kind == "DAE"
    return Claim(
        words=f"{kind}, {loss}: the best α gains {'over half a point' if rises else 'under a point'} on α = 0",
        source="Figure 6", score="validation_accuracy", best=[key(kind, loss, alpha) for alpha in ALPHAS],
        weights={BEST: 1.0, key(kind): -1.0}, above=0.5 if rises else -1.0,
        below=float("inf") if rises else 1.0,
    )  # fmt: skip


def _fall(loss: str) -> Claim:
    keys = [key("DAE", loss, alpha) for alpha in ALPHAS]
    return Claim(
        words=f"DAE, {loss}: accuracy falls sharply after its peak, by over a point at α = 100", source="Figure 6",
        score="validation_accuracy", best=keys, weights={BEST: 1.0, keys[-1]: -1.0}, above=1.0,
    )  # fmt: skip


CLAIMS = tuple(_gain(kind, loss) for kind in KINDS for loss in LOSSES) + tuple(_fall(loss) for loss in LOSSES)
EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=CLAIMS)
