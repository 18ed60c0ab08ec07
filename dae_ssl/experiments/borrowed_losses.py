"""Are the losses of Barlow Twins and SimCLR good embedding losses inside the denoising autoencoder?"""

from dae_ssl.experiments.form import Curves, Experiment, Numbers, Row
from dae_ssl.experiments.published import PLAIN

ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
LOSSES = {"Barlow Twins": "barlow_twins", "NT-Xent": "nt_xent", "NCS": "ncs"}

ROWS = (
    Row("DAE, no embedding loss", {"method": {"name": "dae"}}, PLAIN["DAE"]),
    *(
        Row(f"DAE, {name}, α = {alpha:g}", {"method": {"name": "dae", "embedding": loss, "alpha": alpha}},
            at={"loss": name, "alpha": alpha})
        for name, loss in LOSSES.items() for alpha in ALPHAS
    ),
)  # fmt: skip
EXHIBITS = (
    Curves(name="alpha", title="Validation accuracy against the weight of the embedding loss", x="alpha", x_label="α",
           score="validation_accuracy", lines="loss", logarithmic=True, note="Dotted line: no embedding loss."),
    Numbers(name="accuracies", title="Accuracy by weight", scores=("validation_accuracy", "test_accuracy")),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS)
