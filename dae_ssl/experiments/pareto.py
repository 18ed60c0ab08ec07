"""Figure 2, measured: how much reconstruction does it cost to draw embeddings together, and where is accuracy best?"""

from dae_ssl.experiments.embedding_loss import rows
from dae_ssl.experiments.form import Experiment, Plane

EXHIBITS = (
    Plane(
        name="terms", title="The two terms of the loss at the end of training, by the weight of the embedding loss",
        x="final_embedding", y="final_reconstruction", colour="validation_accuracy", lines="loss", panels="kind",
        note="The study sketches this front; here it is measured. The number beside each point is its α. The terms are "
             "means over the last epoch.",
    ),
)  # fmt: skip
# The rows are those of Figure 6.
EXPERIMENT = Experiment(question=__doc__, rows=rows, exhibits=EXHIBITS)
