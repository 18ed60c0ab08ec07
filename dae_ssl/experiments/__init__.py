"""The questions of the study, one file each: its rows, what was published for them, and what is drawn of them.

    published   every number that the study published, once
    form        what the files are written with

Every other module is an experiment of its own name. Its docstring is the question, and it ends in one value:
EXPERIMENT = Experiment(question=__doc__, rows=..., exhibits=..., claims=...). To add one, add a file; nothing else
needs to know.
"""

import importlib
import pkgutil
from dataclasses import replace

from dae_ssl.config import ConfigError, require
from dae_ssl.experiments.form.experiment import Experiment, Section, distinct
from dae_ssl.experiments.form.settings import called, merged

__all__ = ["Experiment", "Section", "called", "distinct", "load", "merged", "names"]

_NO_EXPERIMENTS = ("form", "published")


def names() -> list[str]:
    """Return the names of all experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NO_EXPERIMENTS)


def load(name: str) -> Experiment:
    """Return an experiment by its name. Raises ConfigError for a name that is none, or whose file ends in none."""
    require(name in names(), "experiment", name, ", ".join(names()))
    stated = getattr(importlib.import_module(f"{__name__}.{name}"), "EXPERIMENT", None)
    if not isinstance(stated, Experiment):
        is_now = "is missing" if stated is None else f"is of type {type(stated).__name__}"
        wanted = "end its file in EXPERIMENT = Experiment(question=__doc__, rows=...)"
        raise ConfigError(f"experiment {name}: EXPERIMENT {is_now}: {wanted}")
    experiment = replace(stated, name=name, question=(stated.question or "").strip())
    parts = [part.name for part in experiment.parts]
    for part in experiment.first:
        require(part in parts, f"experiment {name}: first", part, f"one of its parts: {', '.join(parts)}")
    return experiment
