"""The classes and functions with which the files of `experiments` are written.

    settings    changes nested settings, and names the changes
    rows        what is compared: rows, floors, and grids that are extended
    scores      every score that can be shown, with its title, unit and digits
    exhibits    the figures and tables of an experiment
    claims      statements on rows that can be tested
    experiment  a question with its rows, exhibits and claims, and its cells

Import all of it from this package.
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
