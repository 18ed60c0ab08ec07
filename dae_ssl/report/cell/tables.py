"""Make the tables of scores of a cell and its floors, with intervals, differences and tests."""

from collections.abc import Callable, Iterator, Sequence
from xml.etree.ElementTree import Element

from dae_ssl.report.findings import Findings, paired_p_values
from dae_ssl.report.markup import missing, tag
from dae_ssl.report.numbers import four_digits, interval, p_values, percent, points, signed_four_digits
from dae_ssl.report.scores import CLASSIFIERS
from dae_ssl.report.significance import wilson_interval
from dae_ssl.report.table import DASH, Entry, Line, Table

ACCURACIES = {
    "test_accuracy": "Test, the study's probe",
    "logistic_test_accuracy": "Test, logistic regression (L-BFGS)",
    "validation_accuracy": "Validation, the study's probe",
    "logistic_validation_accuracy": "Validation, logistic regression (L-BFGS)",
}
CLUSTERINGS = {
    "inertia": "Inertia per point",
    "nmi": "Normalised mutual information",
    "ari": "Adjusted Rand index",
    "matched_accuracy": "Matched accuracy (%)",
}
MISSING = Entry(text="missing", absent=True)


def accuracies(findings: Findings, floors: Sequence[Findings]) -> Iterator[Element]:
    """Yield the table of accuracies with what is said of it."""
    yield from accuracy_table(findings, floors).titled(accuracy_note(findings))
    for shown in (findings, *floors):
        if shown.scores.get("logistic_converged") == 0:
            yield tag("p", missing(f"The logistic regression of {shown.name} did not converge."))


def accuracy_table(findings: Findings, floors: Sequence[Findings]) -> Table:
    """Return the table of accuracies, top-1 in percent, with intervals, differences and tests."""
    lines = []
    for name, title in ACCURACIES.items():
        entries = [_accuracy(findings, name)]
        for floor in floors:
            entries += [_accuracy(floor, name), _accuracy_difference(findings, floor, name)]
        lines.append(Line(name=title, entries=entries))
        if name == "test_accuracy":
            lines += _by_seed(findings, floors)
    title = f"Linear classification of {findings.cell.data.evaluate}, top-1 (%)"
    return Table(title=title, head=_head(findings, floors), lines=lines)


def accuracy_note(findings: Findings) -> str:
    """Return what the intervals and differences of the accuracies are."""
    count = "" if findings.test_images is None else f"{findings.test_images} "
    return (
        f"In brackets: 95 % Wilson interval over the choice of {count}test images; it does not cover the choice of "
        "seeds. Differences are this cell minus the floor, in percentage points. p is that of an exact two-sided "
        "McNemar test on the same test images, one for each probe seed, not corrected for the number of tests. "
        "Validation accuracy is that of the learning rate that it selected."
    )


def clusterings(findings: Findings, floors: Sequence[Findings]) -> Iterator[Element]:
    """Yield the table of k-means scores, on plain features as published and on standardised features."""
    lines = []
    for prefix, features in (("kmeans_", "plain"), ("kmeans_standardised_", "standardised")):
        for name, title in CLUSTERINGS.items():
            entries = [_clustering(findings, f"{prefix}{name}")]
            for floor in floors:
                entries += [_clustering(floor, f"{prefix}{name}"),
                            _clustering_difference(findings, floor, f"{prefix}{name}")]  # fmt: skip
            lines.append(Line(name=f"{title}, {features}", entries=entries))
    title = f"k-means with {findings.cell.kmeans.clusters} centres on {findings.cell.data.evaluate} test"
    yield from Table(title=title, head=_head(findings, floors), lines=lines).titled(
        "Plain: representations without scaling, whose inertia the study reports; it grows with the square of their "
        "scale. Standardised: each feature has mean 0 and variance 1; the inertia still grows with the number of "
        "features, so neither inertia is comparable with that of raw pixels. The other scores do not depend on scale. "
        "In brackets: 95 % Wilson interval over test images.",
    )


def _head(findings: Findings, floors: Sequence[Findings]) -> list[str]:
    return ["", findings.name, *(title for floor in floors for title in (floor.name, "difference"))]


def _by_seed(findings: Findings, floors: Sequence[Findings]) -> Iterator[Line]:
    seeds = findings.cell.probe.seeds
    for number, seed in enumerate(map(str, seeds)):
        share = findings.accuracy_by_seed.get(seed)
        entries = [_share(share)]
        for floor in floors:
            of_floor = floor.accuracy_by_seed.get(seed)
            tested = paired_p_values(findings, floor, "probe") if len(seeds) > 1 else None
            sure = p_values([tested[number]]) if tested else ""
            entries += [_share(of_floor), Entry(text=_difference(share, of_floor, points), small=sure)]
        yield Line(name=f"– with probe seed {seed}", entries=entries, style="small")


def _accuracy(shown: Findings, name: str) -> Entry:
    share = shown.scores.get(name)
    return _share(share, shown.test_images if name in CLASSIFIERS else None)


def _accuracy_difference(findings: Findings, floor: Findings, name: str) -> Entry:
    difference = _difference(findings.scores.get(name), floor.scores.get(name), points)
    if name not in CLASSIFIERS or not findings.correct or not floor.correct:
        return Entry(text=difference)
    tested = paired_p_values(findings, floor, CLASSIFIERS[name])
    if tested is None:
        return Entry(text=difference, small="no test: other images or seeds")
    # With several probe seeds, the lines below show one p for each.
    return Entry(text=difference, small=p_values(tested) if len(tested) == 1 else "")


def _clustering(shown: Findings, name: str) -> Entry:
    score = shown.scores.get(name)
    if _is_share(name):
        return _share(score, shown.test_images)
    return MISSING if score is None else Entry(text=four_digits(score))


def _clustering_difference(findings: Findings, floor: Findings, name: str) -> Entry:
    reads = points if _is_share(name) else signed_four_digits
    return Entry(text=_difference(findings.scores.get(name), floor.scores.get(name), reads))


def _is_share(name: str) -> bool:
    return name.endswith("matched_accuracy")


def _share(share: float | None, images: int | None = None) -> Entry:
    """Return a share in percent, with its interval over test images if their number is given."""
    if share is None:
        return MISSING
    reach = "" if images is None else interval(*map(percent, wilson_interval(share, images)))
    return Entry(text=percent(share), small=reach)


def _difference(share: float | None, other: float | None, reads: Callable[[float], str]) -> str:
    return DASH.text if share is None or other is None else reads(share - other)
