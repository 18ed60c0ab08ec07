"""Figure 4: does it help to ask for the clean image, where the two views are not drawn together at all?"""

from dae_ssl.experiments.form import Claim, Numbers, ProbeCurves, Row, beats

DAE, AE = "DAE, no embedding loss", "AE, no embedding loss"

ROWS = (
    Row(DAE, {"method": {"name": "dae"}}, 65.9),
    Row(AE, {"method": {"name": "ae"}}, 61.2),
)
EXHIBITS = (
    ProbeCurves(
        name="probe", title="Accuracy while the probe learns", note="The study draws test accuracy here. Test images "
        "are looked at once, at the end, so the curves are on validation images."
    ),
    Numbers(name="accuracies", title="Test accuracy"),
)  # fmt: skip
CLAIMS = (
    beats(DAE, AE, "The DAE beats the AE", "Figure 4", published=4.7),
    Claim(
        words="On the DAE's representations the probe converges faster: fewer epochs to 99 % of its final accuracy",
        source="Figure 4", weights={AE: 1, DAE: -1}, score="probe_epochs_to_converge",
    ),
    beats(DAE, "random encoder", "The DAE learns something: it beats the untrained encoder", "a floor"),
    beats(AE, "random encoder", "The AE learns something: it beats the untrained encoder", "a floor"),
)  # fmt: skip
