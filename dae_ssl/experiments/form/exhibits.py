"""Exhibits: the figures and tables that show an experiment's rows."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure or table that shows an experiment's rows."""

    name: str
    """The stem of the names of its files."""
    title: str
    note: str = ""

    def named_scores(self) -> tuple[str, ...]:
        """Return the names of the scores that it shows."""
        return ()

    def named_places(self) -> tuple[str, ...]:
        """Return the names that some rows must have in `at` to be shown."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Numbers(Exhibit):
    """A table with a line for each row and floor, and a column for each score."""

    scores: Sequence[str] = ("test_accuracy", "logistic_test_accuracy", "kmeans_matched_accuracy")

    def named_scores(self) -> tuple[str, ...]:
        """Return the scores of the columns."""
        return tuple(self.scores)


ACCURACIES = Numbers(name="accuracies", title="Test accuracy")
"""The exhibit of an experiment that names none."""


@dataclass(frozen=True, kw_only=True)
class Curves(Exhibit):
    """A figure of a score against a number, with a line for each value of `lines` and a panel for each of `panels`.

    A row without a value on the x axis is drawn as a horizontal dotted line.
    """

    x: str
    x_label: str
    score: str
    lines: str
    panels: str | None = None
    logarithmic: bool = False
    relative_to: float | None = None
    """If given, the figure shows the change relative to the same line's value at this x."""

    def named_scores(self) -> tuple[str, ...]:
        """Return the score that is drawn."""
        return (self.score,)

    def named_places(self) -> tuple[str, ...]:
        """Return the names of its x axis, lines and panels."""
        return (self.x, self.lines) if self.panels is None else (self.x, self.lines, self.panels)


@dataclass(frozen=True, kw_only=True)
class ProbeCurves(Exhibit):
    """Validation accuracy by probe epoch, a curve for each row and floor."""


@dataclass(frozen=True, kw_only=True)
class Plane(Exhibit):
    """A figure of one score against another, with each row as a point that is coloured by a third score."""

    x: str
    y: str
    colour: str
    lines: str
    panels: str | None = None

    def named_scores(self) -> tuple[str, ...]:
        """Return the three scores."""
        return self.x, self.y, self.colour

    def named_places(self) -> tuple[str, ...]:
        """Return the names of its lines and panels."""
        return (self.lines,) if self.panels is None else (self.lines, self.panels)


@dataclass(frozen=True, kw_only=True)
class Pictures(Exhibit):
    """Test images, their views, and each row's reconstructions of these."""


@dataclass(frozen=True, kw_only=True)
class Strengths(Exhibit):
    """Views of test images at several strengths of the jitter."""


@dataclass(frozen=True, kw_only=True)
class Effects(Exhibit):
    """How much each change `of` moves test accuracy, relative to the row with the same `within` and change `start`."""

    of: str
    within: str
    start: str

    def named_scores(self) -> tuple[str, ...]:
        """Return test accuracy, by which changes are measured."""
        return ("test_accuracy",)

    def named_places(self) -> tuple[str, ...]:
        """Return the names of the change and of the group."""
        return self.of, self.within
