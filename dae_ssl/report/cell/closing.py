"""The lines with which a run ends: accuracies with intervals, and what they show against the floors."""

from collections.abc import Iterator, Sequence

from dae_ssl.report.findings import Findings, paired_p_values
from dae_ssl.report.numbers import interval, p_values, percent, points
from dae_ssl.report.scores import CLASSIFIERS
from dae_ssl.report.significance import contrast, wilson_interval

PROBES = {"test_accuracy": "linear probe", "logistic_test_accuracy": "logistic regression"}
"""What the accuracies of `scores.CLASSIFIERS` are called where there is little room."""
CLUSTERS = "kmeans_matched_accuracy"
LEVEL = 0.05
"""A difference counts as shown where the p of every probe seed is below it."""


def closing(findings: Findings, floors: Sequence[Findings]) -> Iterator[str]:
    """Yield the lines on a cell whose stages are done, and its floors; the numbers are those of the cell's page.

    In brackets are 95 % intervals over the choice of test images: Wilson's of an accuracy, that of the paired
    difference from a floor. p is McNemar's exact one, as on the page.
    """
    yield f"{findings.cell.data.evaluate}: top-1 % of {findings.test_images:,} test images, 95 % intervals over these"
    shown = (findings, *floors)
    columns = [[each.name for each in shown]]
    columns += [[_accuracy(each, name) for each in shown] for name in PROBES]
    columns += [[percent(each.scores[CLUSTERS]) for each in shown]]
    heads = ["", *PROBES.values(), "k-means"]
    widths = [max(map(len, (head, *column))) for head, column in zip(heads, columns, strict=True)]
    for line in zip(*([head, *column] for head, column in zip(heads, columns, strict=True)), strict=True):
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
    for name, probe in PROBES.items() if floors else ():
        yield ""
        yield f"by the {probe}, this cell is"
        yield from (f"  {compared(findings, floor, name)}" for floor in floors)
    yield ""
    yield "k-means: accuracy of clusters that were matched to classes. It varies from processor to processor, so"
    yield "nothing is concluded from it."


def compared(findings: Findings, floor: Findings, name: str) -> str:
    """Say whether an accuracy of `CLASSIFIERS` is better than a floor's, by how much, and how sure that is."""
    classifier = CLASSIFIERS[name]
    tested = paired_p_values(findings, floor, classifier)
    if tested is None:
        return f"not compared with the {floor.name}: other test images or seeds"
    difference = contrast([findings.correct[classifier], floor.correct[classifier]], [1.0, -1.0])
    words = "not shown to differ from"
    if max(tested) < LEVEL:
        words = "better than" if difference.mean > 0 else "worse than"
    assert difference.low is not None
    assert difference.high is not None
    reach = interval(points(difference.low), points(difference.high))
    return f"{words} the {floor.name}: {points(difference.mean)} {reach}, {p_values(tested)}"


def _accuracy(shown: Findings, name: str) -> str:
    share, images = shown.scores[name], shown.test_images
    assert images is not None
    return f"{percent(share)} {interval(*map(percent, wilson_interval(share, images)))}"
