"""Every number that the study published, once, with the table or figure in which it was published.

Accuracies are those of the linear probe on CIFAR-10 test images, top-1, in percent; differences of accuracies are in
points. Experiments use the numbers by name, so that a number and its source are written down in one place.
"""

from collections.abc import Mapping
from dataclasses import dataclass


class Published(float):
    """A number of the study, with the table or figure in which it was published."""

    __slots__ = ("source",)
    source: str

    def __new__(cls, value: float, source: str) -> "Published":
        """Return the number, which is a float with a source."""
        number = super().__new__(cls, value)
        number.source = source
        return number


def difference(larger: Published, smaller: Published, *, digits: int | None = None) -> Published:
    """Return the difference of two published numbers, rounded if `digits` is given."""
    points = float(larger) - float(smaller)
    return Published(points if digits is None else round(points, digits), larger.source)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The weight of an embedding loss that the study chose on its validation images, and the accuracy with it."""

    alpha: Published
    accuracy: Published


TABLE_2 = "Table 2"

SIMCLR = Published(69.7, TABLE_2)
PLAIN: Mapping[str, Published] = {
    "AE": Published(61.2, TABLE_2),
    "DAE": Published(65.9, TABLE_2),
}
"""The accuracy without an embedding loss, by kind of autoencoder."""
CHOSEN: Mapping[tuple[str, str], Chosen] = {
    ("AE", "L1"): Chosen(alpha=Published(0.01, TABLE_2), accuracy=Published(62.0, TABLE_2)),
    ("AE", "L2"): Chosen(alpha=Published(0.0001, TABLE_2), accuracy=Published(62.1, TABLE_2)),
    ("AE", "NCS"): Chosen(alpha=Published(0.001, TABLE_2), accuracy=Published(62.6, TABLE_2)),
    ("DAE", "L1"): Chosen(alpha=Published(0.1, TABLE_2), accuracy=Published(67.1, TABLE_2)),
    ("DAE", "L2"): Chosen(alpha=Published(1.0, TABLE_2), accuracy=Published(67.1, TABLE_2)),
    ("DAE", "NCS"): Chosen(alpha=Published(10.0, TABLE_2), accuracy=Published(67.3, TABLE_2)),
}
"""The accuracy with an embedding loss, by kind of autoencoder and loss."""

SIMCLR_BELOW_UNCHANGED_COLOURS = Published(7.0, "Figure 9")
"""SimCLR with the strongest jitter, s = 1.5, is about this many points below SimCLR without jitter."""
SIMCLR_BELOW_ITS_PEAK = Published(10.0, "Figure 9")
"""SimCLR with the strongest jitter is more than this many points below its peak."""
