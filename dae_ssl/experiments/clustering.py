"""Figure 7: does k-means find tighter clusters in the DAE's representations as α grows, and are they the classes?"""

from collections.abc import Iterator

from dae_ssl.config import Cell
from dae_ssl.experiments import embedding_loss
from dae_ssl.experiments.embedding_loss import ALPHAS, LOSSES, key
from dae_ssl.experiments.form import BEST, Claim, Curves, Experiment, Numbers, Row, Validation


def rows(base: Cell, validation: Validation) -> Iterator[Row]:
    """Yield the rows of the DAEs in Figure 6."""
    return (row for row in embedding_loss.rows(base, validation) if row.at["kind"] == "DAE")


def _curves(name: str, title: str, score: str, note: str = "") -> Curves:
    return Curves(name=name, title=title, x="alpha", x_label="α", score=score, lines="loss", logarithmic=True,
                  note=note)  # fmt: skip


EXHIBITS = (
    _curves("inertia", "Inertia per point, as published", "kmeans_inertia",
            "The inertia grows with the square of the representations' scale, whatever their clusters."),
    _curves("inertia-standardised", "Inertia per point and feature, features standardised",
            "kmeans_standardised_inertia_per_feature",
            "It does not depend on scale and is 1 if clusters explain nothing."),
    _curves("nmi", "Normalised mutual information with the classes", "kmeans_standardised_nmi",
            "The features are standardised, as in the next two figures."),
    _curves("ari", "Adjusted Rand index", "kmeans_standardised_ari"),
    _curves("matched", "Accuracy of clusters matched to classes", "kmeans_standardised_matched_accuracy"),
    Numbers(
        name="clusterings", title="k-means on the test representations",
        scores=("kmeans_inertia", "kmeans_nmi", "kmeans_ari", "kmeans_matched_accuracy",
                 "kmeans_standardised_inertia_per_feature", "kmeans_standardised_nmi", "kmeans_standardised_ari",
                 "kmeans_standardised_matched_accuracy"),
    ),
)  # fmt: skip


def _falls(loss: str) -> Claim:
    first, last = key("DAE", loss, ALPHAS[0]), key("DAE", loss, ALPHAS[-1])
    return Claim(words=f"{loss}: inertia falls with α, from 10⁻⁴ to 10²", source="Figure 7",
                 weights={first: 1, last: -1}, score="kmeans_inertia")  # fmt: skip


_NCS = [key("DAE", "NCS", alpha) for alpha in ALPHAS]
CLAIMS = (
    *(_falls(loss) for loss in LOSSES if loss != "NCS"),
    Claim(words="NCS: inertia first rises with α", source="Figure 7", score="kmeans_inertia", best=_NCS[1:-1],
          weights={BEST: 1.0, _NCS[0]: -1.0}),
    Claim(words="NCS: then it falls", source="Figure 7", score="kmeans_inertia", best=_NCS[1:-1],
          weights={BEST: 1.0, _NCS[-1]: -1.0}),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS, claims=CLAIMS)
