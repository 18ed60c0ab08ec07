"""The whole study: do the published results hold again, table by table and figure by figure?

The parts are in the order of the paper. The most valuable cells are computed first: Table 2, then Figures 10 and 9 with
one seed, the rest of Figure 6, then further seeds.
"""

from dae_ssl.experiments import load
from dae_ssl.experiments.form import Experiment

PARTS = (
    "denoising",
    "reconstructions",
    "embedding_loss",
    "pareto",
    "clustering",
    "methods",
    "augmentation_strength",
    "training_length",
    "trained_to_the_end",
    "as_published_code",
)

EXPERIMENT = Experiment(
    question=__doc__,
    seeds=(0, 1, 2),
    parts=tuple(load(name) for name in PARTS),
    first=("methods", "training_length", "augmentation_strength", "embedding_loss"),
)
