"""experiments.md: every experiment with its question, the number of its cells, and the command that computes it."""

import inspect
from collections.abc import Iterable, Sequence

from dae_ssl import config, experiments
from dae_ssl.config import Cell
from dae_ssl.experiments import Experiment, distinct
from docs.generate import markdown

INTRODUCTION = """\
An experiment is a question with the rows it compares, in one file of
[`dae_ssl/experiments`](../../dae_ssl/experiments/__init__.py). `dae-ssl plan NAME` says what it needs, has and would
cost, `dae-ssl submit NAME` computes what is missing, and `dae-ssl report NAME` draws its page.

*Cells a seed* counts each cell once, without the floors, before validation has chosen anything: where the best α lies
on the edge of a grid, the next decade is added. *Pretraining* counts the runs among them that train an encoder, since
cells that differ in their evaluation alone share one. Cells that two experiments have in common are computed once."""
HEAD = ("experiment", "question", "cells a seed", "pretraining", "seeds")


def page() -> str:
    """Return the page."""
    loaded = [experiments.load(name) for name in experiments.names()]
    rows = [
        [f"[`{each.name}`](#{each.name})", _question(each)[0], str(len(_cells(each))), str(_trained(_cells(each))),
         ", ".join(map(str, each.seeds))]
        for each in loaded
    ]  # fmt: skip
    parts = [part for each in loaded for part in _experiment(each)]
    return markdown.page("Experiments", INTRODUCTION, markdown.table(HEAD, rows), *parts)


def _question(experiment: Experiment) -> list[str]:
    """Return the paragraphs of its question, the first being a line."""
    return [" ".join(part.split()) for part in inspect.cleandoc(experiment.question).split("\n\n")]


def _cells(experiment: Experiment) -> list[Cell]:
    """Return the cells of one seed, each once."""
    return distinct(cell for section in experiment.sections([0]) for cell in section.every())


def _trained(cells: Iterable[Cell]) -> int:
    return len({config.key(cell, "pretrain") for cell in cells if cell.method.trains})


def _experiment(experiment: Experiment) -> Sequence[str]:
    made_of = ", ".join(f"[`{part.name}`](#{part.name})" for part in experiment.parts)
    return (
        f"## {experiment.name}", *_question(experiment), f"It is made of {made_of}." if made_of else "",
        f"`dae-ssl submit {experiment.name}`",
    )  # fmt: skip
