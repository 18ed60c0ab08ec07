"""Format numbers in the same way on every page."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

MINUS = "−"
"""The minus sign, which is as wide as a plus."""


def signed(value: float, digits: int) -> str:
    """Return a number with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.2f}"


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, always signed."""
    return signed(100 * difference, 2)


def four_digits(value: float) -> str:
    """Return a number of any size with about four digits."""
    return f"{value:.{_digits(value)}f}"


def signed_four_digits(value: float) -> str:
    """Return a difference of any size with a sign and about four digits."""
    return signed(value, _digits(value))


def _digits(value: float) -> int:
    return 2 if abs(value) >= 10 else 4


def interval(low: str, high: str) -> str:
    """Return an interval, given its ends as text."""
    return f"[{low}, {high}]"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def p_values(values: Sequence[float]) -> str:
    """Return p-values, one for each seed, as text: `p = 0.034`, or `p = 0.034 to 0.21 over 3 seeds`."""
    low, high = _p(min(values)), _p(max(values))
    if low == high:
        seeds = "" if len(values) == 1 else f" for all {len(values)} seeds"
        return f"p {low}{seeds}"
    return f"p {low} to {high.removeprefix('= ')} over {len(values)} seeds"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def setting(value: Any) -> str:
    """Return a setting as JSON, but a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def utc(seconds: float) -> str:
    """Return a time, in seconds since 1970, as date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
