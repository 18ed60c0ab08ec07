"""One line of a table or point of a curve."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Row:
    """A setting that an experiment compares with others."""

    label: str
    settings: Mapping[str, Any]
    """Nested settings of its cells, without the seed; what is left out has the study's value."""
    published: float | None = None
    """CIFAR-10 test accuracy of the probe in percent, as the study has it."""
