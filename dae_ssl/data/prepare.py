"""Preparing image sets: read from a source, brought into one order, compared with the published ones, committed.

A prepared set holds the same bytes whatever it was made from: the images of each split are sorted by label and then by
the SHA-256 of their pixels, labels number the class names in alphabetical order, and a digest of it all is recorded.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dae_ssl import config
from dae_ssl.data.photographs import photographs
from dae_ssl.data.prepared import EMBEDDED, SPLITS, DataError
from dae_ssl.data.sources import OFFICIAL, Content, Int64, Uint8, digits, downloaded, from_path
from dae_ssl.files import StoreError, appearing
from dae_ssl.lock import held
from dae_ssl.store import RECORD, Folder, Store

Source = Path | Literal["download", "digits", "photographs"]
"""Where images come from: a path as `from_path` takes it, or one of these."""


def prepare(
    store: Store,
    name: str,
    source: Source,
    *,
    size: int | None = None,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prepare a data set under a name and return its commit record; `tell` gets what there is to say.

    `size` is that of `from_path`. The same content again changes nothing. Raises DataError when the source cannot be
    read or the name already holds different content.
    """
    config.Data(evaluate=name)  # refuses what is no name
    if source == "download":
        content = downloaded(name)
    elif source == "digits":
        content = digits()
    elif source == "photographs":
        content = photographs()
    else:
        content = from_path(name, source, size=size, tell=tell)
    content = canonical(content)
    facts: dict[str, Any] = {"name": name, "source": content.source, "classes": list(content.classes), "splits": {}}
    for split, (images, labels) in content.splits.items():
        facts["splits"][split] = {
            "images": len(images),
            "shape": list(images.shape[1:]),
            "digest": digest(images, labels, content.classes),
        }
    facts["official"] = content.checksums_match or _is_official(name, facts["splits"])
    folder = store.data(name)
    with held(folder.lock, tell=tell):
        record = _kept(folder, facts["splits"])
        tell(f"{folder.path}: {'already prepared, with' if record else 'prepared'} {_counts(facts)}")
        record = record or _write(folder, content, facts)
    if source not in EMBEDDED:  # others may be the published set, or not
        tell(f"{name}: {verdict(name, facts)}")
    return record


def canonical(content: Content) -> Content:
    """Return the content in the order that does not depend on its source, labels renumbered by class name."""
    names = sorted(content.classes)
    number = np.array([names.index(name) for name in content.classes], dtype=np.int64)
    splits = {}
    for split, (images, old_labels) in content.splits.items():
        labels = number[old_labels]
        pixels = [hashlib.sha256(image.tobytes()).digest() for image in images]
        order = [row for _, _, row in sorted(zip(labels.tolist(), pixels, range(len(labels)), strict=True))]
        splits[split] = (images[order], labels[order])
    return dataclasses.replace(content, splits=splits, classes=tuple(names))


def digest(images: Uint8, labels: Int64, classes: Sequence[str]) -> str:
    """Return the SHA-256 over the shape and class names, the pixels and the labels, in canonical order."""
    header = json.dumps({"shape": images.shape, "classes": list(classes)}).encode()
    sha = hashlib.sha256(header)
    sha.update(np.ascontiguousarray(images).data)
    sha.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return sha.hexdigest()


def verdict(name: str, facts: dict[str, Any]) -> str:
    """Say whether a record's content is the published one, differs from it (with counts), or is not known."""
    if facts["official"]:
        return f"the official {OFFICIAL[name].reader} images"
    if name not in OFFICIAL:
        return "no published set is known under this name, so there is nothing to compare with"
    said = []
    for split, (count, known) in OFFICIAL[name].splits.items():
        here = facts["splits"][split]
        if here["images"] != count:
            said.append(f"{split} has {here['images']} images where the official set has {count}")
        elif known is None:
            said.append(f"{split} has the official number of images, whose pixels are not known here")
        else:
            said.append(f"{split} {'is the official one' if here['digest'] == known else 'has different pixels'}")
    return f"not known to be the official {OFFICIAL[name].reader}: {'; '.join(said)}"


def _is_official(name: str, splits: dict[str, Any]) -> bool:
    known = OFFICIAL[name].splits if name in OFFICIAL else {}
    return bool(known) and all(splits[split]["digest"] == sha for split, (_, sha) in known.items())


def _counts(facts: dict[str, Any]) -> str:
    counts = (f"{facts['splits'][split]['images']} {split}" for split in SPLITS)
    return f"{' and '.join(counts)} images of {len(facts['classes'])} classes from {facts['source']}"


def _kept(folder: Folder, splits: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of an intact set with the same content, or None if the set has to be written."""
    record = folder.record()
    if record is None:
        return None
    if record["splits"] != splits:
        raise DataError(
            f"{folder.path} holds other images ({_counts(record)}): use another name for these, "
            "since what was computed from a set's name relies on its content"
        )
    try:
        return folder.verify()
    except StoreError:
        return None


def _write(folder: Folder, content: Content, facts: dict[str, Any]) -> dict[str, Any]:
    folder.create()
    folder.product(RECORD).unlink(missing_ok=True)  # that of a damaged set: none while files change
    for split, (images, labels) in content.splits.items():
        _save(folder.product(f"{split}-images.npy"), images)
        _save(folder.product(f"{split}-labels.npy"), labels)
    return folder.commit(facts)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with appearing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
