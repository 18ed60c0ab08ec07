"""A part of an experiment's page: a section with its rows as far as they were measured, and its claims."""

from collections.abc import Sequence
from dataclasses import dataclass

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.report.experiment.subjects import Subject, subjects
from dae_ssl.report.experiment.verdicts import Tested, tested
from dae_ssl.report.findings import Reader


@dataclass(frozen=True)
class Part:
    """A section with what came of it."""

    section: Section
    subjects: Sequence[Subject]
    """Its rows, and the floors at the end."""
    tests: Sequence[Tested]


def part(section: Section, floors: Sequence[Cell], read: Reader) -> Part:
    """Return a section with what the store has of it, beside those of the floors that are its cells'."""
    beside = {config.cell_key(floor) for cell in section.every() for floor in cells.floors(cell).values()}
    measured = subjects(section, [floor for floor in floors if config.cell_key(floor) in beside], read)
    return Part(section, measured, tested(section.claims, {subject.row.key: subject for subject in measured}))
