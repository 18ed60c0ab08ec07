"""What the files of `experiments` are written with.

    settings    nested settings, changed leaf by leaf; whether changed cells are another study, and what they are called
    rows        what is compared: rows, floors, and grids that grow
    scores      every score that can be shown, and how it is told
    exhibits    what is drawn of rows: figures and tables
    claims      what is said of rows, in words
    experiment  a question with all of these, and its cells

All of it is imported from here.
"""

from dae_ssl.experiments.form.claims import BEST, Claim, beats
from dae_ssl.experiments.form.exhibits import (
    Curves,
    Effects,
    Exhibit,
    Numbers,
    Pictures,
    Plane,
    ProbeCurves,
    Strengths,
)
from dae_ssl.experiments.form.experiment import Experiment
from dae_ssl.experiments.form.rows import FLOORS, Row, Validation, extended
from dae_ssl.experiments.form.scores import SCORES, Measure
from dae_ssl.experiments.form.settings import Settings, merged

__all__ = [
    "BEST",
    "FLOORS",
    "SCORES",
    "Claim",
    "Curves",
    "Effects",
    "Exhibit",
    "Experiment",
    "Measure",
    "Numbers",
    "Pictures",
    "Plane",
    "ProbeCurves",
    "Row",
    "Settings",
    "Strengths",
    "Validation",
    "beats",
    "extended",
    "merged",
]
