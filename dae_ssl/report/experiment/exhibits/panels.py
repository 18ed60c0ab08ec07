"""Find the rows that share a panel, a line, or a group of a figure."""

from collections.abc import Sequence

from dae_ssl.report.experiment.subjects import Subject

Value = float | str


def panels(subjects: Sequence[Subject], place: str | None) -> list[Value | None]:
    """Return the values of rows at `place`, which distinguish panels, each once; [None] if there is only one panel."""
    return list(dict.fromkeys(_panel(subject, place) for subject in subjects if not subject.floor))


def in_panel(subject: Subject, place: str | None, panel: Value | None) -> bool:
    """Return whether a row belongs to a panel."""
    return _panel(subject, place) == panel


def values_at(subjects: Sequence[Subject], place: str) -> list[Value]:
    """Return the values of rows at `place`, each once, in their order."""
    return list(dict.fromkeys(subject.row.at[place] for subject in subjects if place in subject.row.at))


def _panel(subject: Subject, place: str | None) -> Value | None:
    return None if place is None else subject.row.at.get(place)
