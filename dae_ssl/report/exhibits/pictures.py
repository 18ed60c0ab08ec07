"""Pictures: what networks make of test images, and views at several strengths."""

from collections.abc import Mapping, Sequence

from dae_ssl.config import Cell
from dae_ssl.report import figures
from dae_ssl.report.drawing import Drawing, Image, mosaic_figure
from dae_ssl.report.subjects import Subject


def reconstructions(base: Cell, subjects: Sequence[Subject]) -> Drawing:
    """Draw clean images, two views of each, and below a view what each row makes of it, as Figure 5 does."""
    shown = {one.label: _last_pictures(one) for one in subjects if not one.floor}
    marks = {one.label: one.mark or one.label for one in subjects}
    absent = [label for label, pictures in shown.items() if pictures is None]
    known = {label: pictures for label, pictures in shown.items() if pictures is not None}
    if not known:
        return Drawing(None, absent=absent)
    first = next(iter(known.values()))
    rows, names = [list(first["clean"])], ["clean"]
    for view in (1, 2):
        if f"view{view}" in first:
            rows.append(list(first[f"view{view}"]))
            names.append(f"view {view}")
        for label, pictures in known.items():
            if f"reconstruction{view}" in pictures:
                rows.append(list(pictures[f"reconstruction{view}"]))
                names.append(marks[label])
    note = f"{base.data.pretrain} test images; below each view what the networks of the first seed make of it."
    return Drawing(mosaic_figure(rows, row_names=names, column_names=[]), notes=(note,), absent=absent)


def _last_pictures(one: Subject) -> Mapping[str, Image] | None:
    found = next((found.pictures for found in one.found if found.pictures), None)
    return None if not found else found[max(found)]


def strengths(base: Cell, subjects: Sequence[Subject]) -> Drawing:
    """Draw views of test images at several strengths of the jitter, as Figure 8 does."""
    pictures = next((found for found in map(_last_pictures, subjects) if found is not None), None)
    if pictures is None:
        return Drawing(None, absent=["example pictures, which a pretraining keeps"])
    figure = figures.views_by_strength_figure(pictures["clean"], base, own="default")
    return Drawing(figure, notes=("Crop and flip of a view are the same at all strengths.",))
