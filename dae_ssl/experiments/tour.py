"""A tour on embedded digits: does an embedding loss help the denoising autoencoder? It takes minutes on any machine."""

from dae_ssl.experiments.form import Experiment, Numbers, ProbeCurves, Row, Settings, beats

BASE: Settings = {
    "data": {"pretrain": "digits", "evaluate": "digits", "validation_images": 297},
    "views": {"flip": 0.0, "crop": 24},  # digits are not mirrored
    "optimisation": {"epochs": 4, "batch_size": 64, "learning_rate": 1e-3, "checkpoints": [1, 2]},
    "probe": {"epochs": 60},
    "kmeans": {"restarts": 3},
}

ROWS = (
    Row("DAE, no embedding loss", {"method": {"name": "dae"}}, key="dae"),
    Row("DAE, L2, α = 1", {"method": {"name": "dae", "embedding": "l2", "alpha": 1.0}}, key="dae-l2"),
    Row("SimCLR", {"method": {"name": "simclr"}}),
)
EXHIBITS = (
    Numbers(
        name="accuracies",
        title="Test accuracy",
        note="Four epochs on 1,297 digits are enough to see that everything works, but not to beat an untrained "
        "encoder, which is good at digits. A DAE without an embedding loss then has features of a small scale, for "
        "which 60 epochs of the probe are not enough; L-BFGS is not affected.",
    ),
    ProbeCurves(name="probe", title="Validation accuracy while the probe learns"),
)
CLAIMS = (
    beats("dae-l2", "dae", "The embedding loss helps", "the question"),
    beats("dae-l2", "random", "Training helps", "a floor"),
)
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS, base=BASE)
