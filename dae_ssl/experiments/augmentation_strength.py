"""Figures 8 and 9: how strong may the colour jitter be before a method suffers from it?"""

from typing import Any

from dae_ssl.experiments.form import BEST, Claim, Curves, Numbers, Row, Strengths, beats

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "DAE-NCS": ({"name": "dae", "embedding": "ncs", "alpha": 10.0}, 67.3),
    "DAE-L2": ({"name": "dae", "embedding": "l2", "alpha": 1.0}, 67.1),
    "SimCLR": ({"name": "simclr"}, 69.7),
}
"""Settings at the study's α, and the published accuracy at the default strength."""
DEFAULT = 0.25


def label(method: str, strength: float) -> str:
    """Return what people call it."""
    return f"{method}, s = {strength:g}"


ROWS = tuple(
    Row(label(method, s), {"method": own, "views": {"jitter": s}}, published if s == DEFAULT else None,
        at={"method": method, "s": s})
    for method, (own, published) in METHODS.items() for s in STRENGTHS
)  # fmt: skip

EXHIBITS = (
    Strengths(name="strengths", title="Figure 8: views of test images at several strengths"),
    Curves(
        name="change", title="Figure 9: change of test accuracy relative to s = 0", x="s", x_label="jitter strength s",
        score="test_accuracy", lines="method", relative_to=0.0,
    ),
    Curves(
        name="accuracy", title="The same, test accuracy itself", x="s", x_label="jitter strength s",
        score="test_accuracy", lines="method",
    ),
    Numbers(name="accuracies", title="Test accuracy by strength", scores=("test_accuracy",)),
)  # fmt: skip


def _under_its_peak(method: str) -> Claim:
    labels = [label(method, s) for s in STRENGTHS]
    return Claim(
        words=f"{method} at s = 1.5 is over 10 points under its peak", source="Figure 9", above=10.0,
        best=labels, weights={BEST: 1.0, labels[-1]: -1.0},
    )  # fmt: skip


CLAIMS = (
    *(beats(label(method, DEFAULT), label(method, 0), f"{method} gains from some jitter: s = 0.25 over s = 0",
            "Figure 9") for method in METHODS),
    beats("SimCLR, s = 0", "SimCLR, s = 1.5", "SimCLR at s = 1.5 is about 7 points under its s = 0", "Figure 9",
          above=4.0, below=10.0, published=7.0),
    _under_its_peak("SimCLR"),
    beats("DAE-NCS, s = 1.5", "SimCLR, s = 1.5", "SimCLR falls below DAE-NCS at s = 1.5", "Figure 9"),
    beats("DAE-L2, s = 1.5", "SimCLR, s = 1.5", "SimCLR falls below DAE-L2 at s = 1.5", "Figure 9"),
    beats("DAE-L2, s = 1.5", "DAE-L2, s = 0", "DAE-L2 at s = 1.5 stays above its own s = 0", "Figure 9"),
)  # fmt: skip
