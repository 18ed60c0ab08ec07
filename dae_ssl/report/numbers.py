"""The tables of numbers: the cell's, those of the floors, and how sure their differences are."""

from collections.abc import Callable, Iterator, Sequence
from xml.etree.ElementTree import Element

from dae_ssl.report.findings import Findings, paired_p_values
from dae_ssl.report.markup import Content, missing, row, table, tag
from dae_ssl.report.significance import told_p, wilson_interval

CLASSIFIERS = {"test_accuracy": "probe", "logistic_test_accuracy": "logistic"}
"""The accuracies of which it is kept which test images were right."""

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


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, always signed."""
    return _signed(100 * difference, 2)


def accuracies(own: Findings, floors: Sequence[Findings]) -> Iterator[Element]:
    """Yield the table of accuracies, top-1 in percent, with intervals, differences and tests."""
    rows = []
    for name, words in ACCURACIES.items():
        cells: list[Content] = [_accuracy(own, name)]
        for floor in floors:
            cells += [_accuracy(floor, name), _accuracy_difference(own, floor, name)]
        rows.append(row(words, *cells))
        if name == "test_accuracy":
            rows += _by_seed(own, floors)
    yield tag("h3", f"Linear classification of {own.cell.data.evaluate}, top-1 (%)")
    yield table(_head(own, floors), rows)
    images = "" if own.test_images is None else f" of {own.test_images} test images"
    yield tag("p", f"In brackets: 95 % Wilson interval over the choice{images}; it does not cover the choice of seeds. "
                   "Differences are this cell minus the floor, in percentage points; p: exact two-sided McNemar test "
                   "on the same test images, one for each probe seed, not corrected for the number of tests. "
                   "Validation accuracy is of the learning rate that it selected.", class_="note")  # fmt: skip
    for subject in (own, *floors):
        if subject.figures.get("logistic_converged") == 0:
            yield tag("p", missing(f"The logistic regression of {subject.words} did not converge."))


def clusterings(own: Findings, floors: Sequence[Findings]) -> Iterator[Element]:
    """Yield the table of k-means scores, as they are published and of standardised features."""
    rows = []
    for prefix, features in (("kmeans_", "plain"), ("kmeans_standardised_", "standardised")):
        for name, words in CLUSTERINGS.items():
            cells: list[Content] = [_clustering(own, f"{prefix}{name}")]
            for floor in floors:
                cells += [_clustering(floor, f"{prefix}{name}"), _clustering_difference(own, floor, f"{prefix}{name}")]
            rows.append(row(f"{words}, {features}", *cells))
    yield tag("h3", f"k-means with {own.cell.kmeans.clusters} centres on {own.cell.data.evaluate} test")
    yield table(_head(own, floors), rows)
    yield tag("p", "Plain: the representations as they are, whose inertia the study reports; it grows with the square "
                   "of their scale. Standardised: each feature at mean 0 and variance 1; its inertia still grows with "
                   "the number of features, so neither compares with raw pixels. The other scores have no scale. In "
                   "brackets: 95 % Wilson interval over test images.", class_="note")  # fmt: skip


def _head(own: Findings, floors: Sequence[Findings]) -> list[Content]:
    return ["", own.words, *(words for floor in floors for words in (floor.words, "difference"))]


def _by_seed(own: Findings, floors: Sequence[Findings]) -> Iterator[Element]:
    for number, seed in enumerate(map(str, own.cell.probe.seeds)):
        shares = {subject.words: subject.accuracy_by_seed.get(seed) for subject in (own, *floors)}
        cells: list[Content] = [_share(shares[own.words])]
        for floor in floors:
            told = _difference(shares[own.words], shares[floor.words], points)
            p_values = paired_p_values(own, floor, "probe") if len(own.cell.probe.seeds) > 1 else None
            sure = tag("span", told_p([p_values[number]]), class_="small") if p_values else ""
            cells += [_share(shares[floor.words]), tag("span", told, sure)]
        yield row(f"– with probe seed {seed}", *cells, class_="small")


def _accuracy(subject: Findings, name: str) -> Content:
    share = subject.figures.get(name)
    if share is None or name not in CLASSIFIERS or subject.test_images is None:
        return _share(share)
    return _with_interval(share, subject.test_images)


def _accuracy_difference(own: Findings, floor: Findings, name: str) -> Content:
    told = _difference(own.figures.get(name), floor.figures.get(name), points)
    if name not in CLASSIFIERS or not own.correct or not floor.correct:
        return told
    p_values = paired_p_values(own, floor, CLASSIFIERS[name])
    if p_values is None:
        return tag("span", told, tag("span", "no test: other images or seeds", class_="small"))
    if len(p_values) > 1:
        return told  # the rows below have one for each seed
    sure = told_p(p_values)
    return tag("span", told, tag("span", sure, class_="small"))


def _clustering(subject: Findings, name: str) -> Content:
    value = subject.figures.get(name)
    if value is None:
        return missing("missing")
    if not name.endswith("matched_accuracy"):
        return _figure(value)
    return _share(value) if subject.test_images is None else _with_interval(value, subject.test_images)


def _clustering_difference(own: Findings, floor: Findings, name: str) -> str:
    share = name.endswith("matched_accuracy")
    return _difference(own.figures.get(name), floor.figures.get(name), points if share else _signed_figure)


def _with_interval(share: float, images: int) -> Element:
    low, high = wilson_interval(share, images)
    return tag("span", f"{100 * share:.2f}", tag("span", f"[{100 * low:.2f}, {100 * high:.2f}]", class_="small"))


def _share(share: float | None) -> Content:
    return missing("missing") if share is None else f"{100 * share:.2f}"


def _difference(one: float | None, other: float | None, told: Callable[[float], str]) -> str:
    return "–" if one is None or other is None else told(one - other)


def _figure(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _signed_figure(value: float) -> str:
    return _signed(value, 2 if abs(value) >= 10 else 4)


def _signed(value: float, digits: int) -> str:
    """Return a number with a sign that is as wide as a plus."""
    return f"{value:+.{digits}f}".replace("-", "−")
