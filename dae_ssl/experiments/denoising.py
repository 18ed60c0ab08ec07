"""Figure 4: does it help to reconstruct the clean image, without a loss that draws the two views together?"""

from dae_ssl.experiments.form import Claim, Experiment, Numbers, ProbeCurves, Row, beats
from dae_ssl.experiments.published import PLAIN, difference

DAE, AE = "dae", "ae"
"""The keys of the rows."""

ROWS = (
    Row("DAE, no embedding loss", {"method": {"name": "dae"}}, PLAIN["DAE"], key=DAE, mark="DAE"),
    Row("AE, no embedding loss", {"method": {"name": "ae"}}, PLAIN["AE"], key=AE, mark="AE"),
)
EXHIBITS = (
    ProbeCurves(
        name="probe", title="Accuracy while the probe learns", note="The study shows test accuracy here. In this suite "
        "test images are used only once, at the end, so the curves show accuracy on validation images."
    ),
    Numbers(name="accuracies", title="Test accuracy"),
)  # fmt: skip
CLAIMS = (
    beats(DAE, AE, "The DAE beats the AE", "Figure 4",
          published=difference(PLAIN["DAE"], PLAIN["AE"], digits=1)),
    Claim(
        words="On the DAE's representations the probe converges faster: fewer epochs to 99 % of its final accuracy",
        source="Figure 4", weights={AE: 1, DAE: -1}, score="probe_epochs_to_converge",
    ),
    beats(DAE, "random", "The DAE learns something: it beats the untrained encoder", "a floor"),
    beats(AE, "random", "The AE learns something: it beats the untrained encoder", "a floor"),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS)
