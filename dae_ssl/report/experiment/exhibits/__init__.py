"""The figures of an experiment.

Each is what the experiment's file asks for, drawn of what was measured; what is missing is drawn as missing.

    curves      a score against a number, a line for each kind of row
    probing     validation accuracy by probe epoch
    plane       one score against another, coloured by a third
    effects     how much each change moves test accuracy
    pictures    what networks make of test images, and views at several strengths
    panels      which rows share a panel, a line, or a group
"""

from collections.abc import Sequence

from dae_ssl.experiments import Section
from dae_ssl.experiments.form import Curves, Effects, Exhibit, Pictures, Plane, ProbeCurves, Strengths
from dae_ssl.report.drawing import Drawing
from dae_ssl.report.experiment.exhibits.curves import curves
from dae_ssl.report.experiment.exhibits.effects import effects
from dae_ssl.report.experiment.exhibits.pictures import reconstructions, strengths
from dae_ssl.report.experiment.exhibits.plane import plane
from dae_ssl.report.experiment.exhibits.probing import probe_curves
from dae_ssl.report.experiment.subjects import Subject


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
