"""Figures of an experiment: what its file asks for, with what was measured; what is missing is drawn as missing."""

from collections.abc import Sequence

from dae_ssl.experiments import Section
from dae_ssl.experiments.form import Curves, Effects, Exhibit, Pictures, Plane, ProbeCurves, Strengths
from dae_ssl.report.drawing import Drawing
from dae_ssl.report.exhibits.curves import curves, probe_curves
from dae_ssl.report.exhibits.effects import effects
from dae_ssl.report.exhibits.pictures import reconstructions, strengths
from dae_ssl.report.exhibits.plane import plane
from dae_ssl.report.subjects import Subject


def draw(exhibit: Exhibit, section: Section, subjects: Sequence[Subject]) -> Drawing:
    """Draw one exhibit of a section, without the published numbers in a reduced study, which they do not belong to."""
    match exhibit:
        case Curves():
            return curves(exhibit, subjects, published=not section.reduced)
        case ProbeCurves():
            return probe_curves(subjects)
        case Plane():
            return plane(exhibit, subjects)
        case Effects():
            return effects(exhibit, subjects)
        case Pictures():
            return reconstructions(section.base, subjects)
        case Strengths():
            return strengths(section.base, subjects)
    raise TypeError(f"{exhibit!r}: no drawing is known for this kind of exhibit")
