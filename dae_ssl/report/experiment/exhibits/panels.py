"""Which rows share a panel of a figure, a line of it, or a group."""

from collections.abc import Sequence

from dae_ssl.report.experiment.subjects import Subject

Value = float | str


def panels(subjects: Sequence[Subject], place: str | None) -> list[Value | None]:
    """Return what rows have at the place that panels are told apart by, each once; just None where there is none."""
    return list(dict.fromkeys(_panel(subject, place) for subject in subjects if not subject.floor))


def in_panel(subject: Subject, place: str | None, panel: Value | None) -> bool:
    """Tell whether a row belongs to a panel."""
    return _panel(subject, place) == panel


def values_at(subjects: Sequence[Subject], place: str) -> list[Value]:
    """Return what rows have at a place, each once, in their order."""
    return list(dict.fromkeys(subject.row.at[place] for subject in subjects if place in subject.row.at))


def _panel(subject: Subject, place: str | None) -> Value | None:
    return None if place is None else subject.row.at.get(place)
