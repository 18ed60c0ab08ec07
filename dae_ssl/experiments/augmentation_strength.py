"""Figures 8 and 9: how strong may the colour jitter be before a method suffers from it?"""

from collections.abc import Mapping

from dae_ssl.config import Views
from dae_ssl.experiments.form import BEST, Claim, Curves, Experiment, Numbers, Row, Settings, Strengths, beats
from dae_ssl.experiments.published import (
    CHOSEN,
    SIMCLR,
    SIMCLR_BELOW_ITS_PEAK,
    SIMCLR_BELOW_UNCHANGED_COLOURS,
    Published,
)

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
METHODS: Mapping[str, tuple[Settings, Published]] = {
    f"DAE-{loss}": ({"name": "dae", "embedding": loss.lower(), "alpha": CHOSEN["DAE", loss].alpha},
                    CHOSEN["DAE", loss].accuracy)
    for loss in ("NCS", "L2")
} | {"SimCLR": ({"name": "simclr"}, SIMCLR)}  # fmt: skip
"""Settings at the study's α, and the published accuracy at the default strength."""


def key(method: str, strength: float) -> str:
    """Return the key by which claims name a row."""
    return f"{method}-{strength:g}"


ROWS = tuple(
    Row(f"{method}, s = {s:g}", {"method": settings, "views": {"jitter": s}}, published if s == Views.jitter else None,
        at={"method": method, "s": s}, key=key(method, s))
    for method, (settings, published) in METHODS.items() for s in STRENGTHS
)  # fmt: skip

EXHIBITS = (
    Strengths(name="strengths", title="Figure 8: views of test images at several strengths"),
    Curves(
        name="change", title="Figure 9: change of test accuracy relative to s = 0", x="s", x_label="jitter strength s",
        score="test_accuracy", lines="method", relative_to=0.0,
    ),
    Curves(
        name="accuracy", title="Test accuracy at each strength", x="s", x_label="jitter strength s",
        score="test_accuracy", lines="method",
    ),
    Numbers(name="accuracies", title="Test accuracy by strength", scores=("test_accuracy",)),
)  # fmt: skip
_PEAK = [key("SimCLR", s) for s in STRENGTHS]
CLAIMS = (
    *(beats(key(method, Views.jitter), key(method, 0), f"{method} gains from some jitter: s = 0.25 over s = 0",
            "Figure 9") for method in METHODS),
    beats(key("SimCLR", 0), key("SimCLR", 1.5), "SimCLR at s = 1.5 is about 7 points below s = 0", "Figure 9",
          above=4.0, below=10.0, published=SIMCLR_BELOW_UNCHANGED_COLOURS),
    Claim(words="SimCLR at s = 1.5 is over 10 points below its peak", source="Figure 9", above=SIMCLR_BELOW_ITS_PEAK,
          best=_PEAK, weights={BEST: 1.0, key("SimCLR", 1.5): -1.0}),
    beats(key("DAE-NCS", 1.5), key("SimCLR", 1.5), "SimCLR falls below DAE-NCS at s = 1.5", "Figure 9"),
    beats(key("DAE-L2", 1.5), key("SimCLR", 1.5), "SimCLR falls below DAE-L2 at s = 1.5", "Figure 9"),
    beats(key("DAE-L2", 1.5), key("DAE-L2", 0), "DAE-L2 at s = 1.5 stays above s = 0", "Figure 9"),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS)
