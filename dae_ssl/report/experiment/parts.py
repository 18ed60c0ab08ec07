"""Join a section of an experiment with the results of its rows and claims, as a part of the page."""

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
    """A section with its results."""

    section: Section
    subjects: Sequence[Subject]
    """The rows, and the floors at the end."""
    tests: Sequence[Tested]


def part(section: Section, floors: Sequence[Cell], read: Reader) -> Part:
    """Return a section with its results in the store, including those of `floors` that its cells are compared with."""
    beside = {config.cell_key(floor) for cell in section.every() for floor in cells.floors(cell).values()}
    measured = subjects(section, [floor for floor in floors if config.cell_key(floor) in beside], read)
    return Part(section, measured, tested(section.claims, {subject.row.key: subject for subject in measured}))
