"""What is drawn of an experiment's rows: figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure or table of an experiment's rows."""

    name: str
    """What its files are called."""
    title: str
    note: str = ""

    def named_scores(self) -> tuple[str, ...]:
        """Return the scores that it shows, by name."""
        return ()

    def named_places(self) -> tuple[str, ...]:
        """Return what some rows must have in `at` for it."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Numbers(Exhibit):
    """A table: a line for each row and the floors, and the scores named."""

    scores: Sequence[str] = ("test_accuracy", "logistic_test_accuracy", "kmeans_matched_accuracy")

    def named_scores(self) -> tuple[str, ...]:
        """Return the columns."""
        return tuple(self.scores)


ACCURACIES = Numbers(name="accuracies", title="Test accuracy")
"""What is shown of an experiment that asks for nothing else."""


@dataclass(frozen=True, kw_only=True)
class Curves(Exhibit):
    """A figure against a number, a line for each value of `lines`, a panel for each of `panels`.

    A row that has no place on the x axis is drawn as a dotted line across.
    """

    x: str
    x_label: str
    score: str
    lines: str
    panels: str | None = None
    logarithmic: bool = False
    relative_to: float | None = None
    """If given, what is drawn is the change relative to the line's own value there."""

    def named_scores(self) -> tuple[str, ...]:
        """Return the one that is drawn."""
        return (self.score,)

    def named_places(self) -> tuple[str, ...]:
        """Return its axis, lines and panels."""
        return (self.x, self.lines) if self.panels is None else (self.x, self.lines, self.panels)


@dataclass(frozen=True, kw_only=True)
class ProbeCurves(Exhibit):
    """Validation accuracy by probe epoch, a curve for each row and floor."""


@dataclass(frozen=True, kw_only=True)
class Plane(Exhibit):
    """Each row as a point with its mark, one score against another, coloured by a third."""

    x: str
    y: str
    colour: str
    lines: str
    panels: str | None = None

    def named_scores(self) -> tuple[str, ...]:
        """Return the three."""
        return self.x, self.y, self.colour

    def named_places(self) -> tuple[str, ...]:
        """Return lines and panels."""
        return (self.lines,) if self.panels is None else (self.lines, self.panels)


@dataclass(frozen=True, kw_only=True)
class Pictures(Exhibit):
    """Test images, their views, and what each row's networks make of these."""


@dataclass(frozen=True, kw_only=True)
class Strengths(Exhibit):
    """Views of test images at several strengths of the jitter."""


@dataclass(frozen=True, kw_only=True)
class Effects(Exhibit):
    """How much each change moves test accuracy, from the row with the same `within` whose `of` is `start`."""

    of: str
    within: str
    start: str

    def named_scores(self) -> tuple[str, ...]:
        """Return the one that changes are measured by."""
        return ("test_accuracy",)

    def named_places(self) -> tuple[str, ...]:
        """Return change and group."""
        return self.of, self.within
