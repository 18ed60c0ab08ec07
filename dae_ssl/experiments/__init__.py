"""The questions of the study, one file each: its rows, their published numbers, its figures, tables and claims.

    form                   defines the classes that these files use
    published              holds every number that the study published, once
    study                  the whole study, in the order of the paper
    denoising              Figure 4: does it help to ask for the clean image?
    reconstructions        Figure 5: what do the autoencoders make of two views?
    embedding_loss         Figure 6: which weight of each embedding loss is best?
    pareto                 Figure 2: how much reconstruction does it cost to draw embeddings together?
    clustering             Figure 7: are the clusters tighter, and are they the classes?
    methods                Table 2: which embedding loss gives the best representations?
    augmentation_strength  Figures 8 and 9: how strong may the jitter be?
    training_length        Figure 10: which method is ahead after how long?
    trained_to_the_end     Figure 10 again, with a separate run for every length
    as_published_code      which deviations of the published code move the accuracy?
    transforms             which of the random transforms does a method need?
    crop_size              how much of the image should a view show?
    learning_rate          which learning rate does each method need?
    batch_size             which method depends less on the batch size?
    other_methods          how do the other methods of the published code compare?
    borrowed_losses        are the losses of other methods good embedding losses?
    precision              does the arithmetic of pretraining matter?
    tour                   a tour on embedded digits, in minutes, on any machine

The docstring of an experiment is its question, and the file ends with one value: EXPERIMENT =
Experiment(question=__doc__, rows=..., exhibits=..., claims=...). To add an experiment, add a file and its line here.
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
    """Return an experiment by its name. Raises ConfigError if there is none, or if its file defines no EXPERIMENT."""
    require(name in names(), "experiment", name, ", ".join(names()))
    stated = getattr(importlib.import_module(f"{__name__}.{name}"), "EXPERIMENT", None)
    if not isinstance(stated, Experiment):
        is_now = "is missing" if stated is None else f"is of type {type(stated).__name__}"
        advice = "end its file with EXPERIMENT = Experiment(question=__doc__, rows=...)"
        raise ConfigError(f"experiment {name}: EXPERIMENT {is_now}: {advice}")
    experiment = replace(stated, name=name, question=(stated.question or "").strip())
    parts = [part.name for part in experiment.parts]
    for part in experiment.first:
        require(part in parts, f"experiment {name}: first", part, f"one of its parts: {', '.join(parts)}")
    return experiment
