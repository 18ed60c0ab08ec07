"""What the files of `experiments` are written with; all of it is imported from here.

settings.py    nested settings, changed leaf by leaf; whether changed cells are another study, and their name
rows.py        what is compared: rows, floors, and grids that grow
scores.py      every score that can be shown, and how it is told
exhibits.py    what is drawn of rows: figures and tables
claims.py      what is said of rows, in words
experiment.py  a question with all of these, and its cells
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
