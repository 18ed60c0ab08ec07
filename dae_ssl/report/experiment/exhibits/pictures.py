"""Draw pictures: reconstructions of test images, and views at several strengths."""

from collections.abc import Sequence

from dae_ssl.config import Cell
from dae_ssl.report import mosaics
from dae_ssl.report.drawing import Drawing
from dae_ssl.report.experiment.subjects import Subject
from dae_ssl.report.findings import Pictures


def reconstructions(base: Cell, subjects: Sequence[Subject]) -> Drawing:
    """Draw clean images, two views of each, and below a view each row's reconstruction of it, as in Figure 5."""
    networks, absent = [], []
    for row, pictures in ((subject.row, _last_pictures(subject)) for subject in subjects if not subject.floor):
        if pictures is None:
            absent.append(row.label)
        else:
            networks.append((dict.fromkeys(mosaics.VIEWS, row.mark or row.label), pictures))
    if not networks:
        return Drawing(None, absent=absent)
    note = f"{base.data.pretrain} test images; below each view its reconstructions by the networks of the first seed."
    return Drawing(mosaics.reconstructions(networks), notes=(note,), absent=absent)


def _last_pictures(subject: Subject) -> Pictures | None:
    kept = next((of_seed.pictures for of_seed in subject.findings if of_seed.pictures), None)
    return None if not kept else kept[max(kept)]


def strengths(base: Cell, subjects: Sequence[Subject]) -> Drawing:
    """Draw views of test images at several strengths of the jitter, as in Figure 8."""
    pictures = next((kept for kept in map(_last_pictures, subjects) if kept is not None), None)
    if pictures is None:
        return Drawing(None, absent=["the example pictures, which pretraining writes"])
    figure = mosaics.views_by_strength(pictures["clean"], base, name="default")
    return Drawing(figure, notes=("The crop and flip of a view are the same at all strengths.",))
