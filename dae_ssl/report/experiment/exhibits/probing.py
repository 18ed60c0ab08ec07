"""Draw validation accuracy by probe epoch: each row's mean and range over seeds."""

from collections.abc import Sequence

import numpy as np

from dae_ssl.report.drawing import ABSENT, VALIDATION_ACCURACY, Drawing, blank, frame, legend_above, pen
from dae_ssl.report.experiment.exhibits.curves import PANEL_PIXELS
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.table import Record

SHADED = "Lines are means over seeds; the shading reaches from the lowest to the highest seed."


def probe_curves(subjects: Sequence[Subject]) -> Drawing:
    """Draw the curve of every row and floor."""
    figure = blank(height_pixels=PANEL_PIXELS)
    axes = figure.add_subplot()
    records, absent = list[Record](), list[str]()
    for number, subject in enumerate(subjects):
        label = subject.row.label
        curves = [next(iter(of_seed.validation_curves().values()), []) for of_seed in subject.findings]
        curves = [curve for curve in curves if curve]
        colour, style = pen(number).colour, pen(number).style
        if not curves:
            axes.plot([], [], color=colour, linestyle=style, label=f"{label}: {ABSENT}")
            absent.append(label)
            records.append({"row": label, "probe_epoch": None, "mean": None, "seeds": 0})
            continue
        length = min(map(len, curves))
        epochs = [step for step, _ in curves[0][:length]]
        percent = 100 * np.array([[share for _, share in curve[:length]] for curve in curves])
        axes.plot(epochs, percent.mean(0), color=colour, linestyle=style, linewidth=1.8, label=label)
        if len(curves) > 1:
            axes.fill_between(epochs, percent.min(0), percent.max(0), color=colour, alpha=0.15, linewidth=0)
        records += [{"row": label, "probe_epoch": epoch, "mean": round(float(mean), 4), "seeds": len(curves)}
                    for epoch, mean in zip(epochs, percent.mean(0), strict=True)]  # fmt: skip
    frame(axes, title="", x="probe epoch", y=VALIDATION_ACCURACY)
    legend_above(figure, [axes])
    return Drawing(figure, records, (SHADED,), absent)
