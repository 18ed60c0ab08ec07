"""Draw the figures that an experiment's file names.

What has not been measured is drawn as missing.

    curves      draws a score against a number, with a line for each kind of row
    probing     draws validation accuracy by probe epoch
    plane       draws one score against another, coloured by a third
    effects     draws how much each change moves test accuracy
    pictures    draws reconstructions of test images, and views at several strengths
    panels      finds the rows that share a panel, a line, or a group
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
    """Draw one exhibit of a section; in a reduced study without the published numbers, which do not apply to it."""
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
    raise TypeError(f"{exhibit!r} is an exhibit of a kind that cannot be drawn")
