"""Image sets as uint8 tensors on the device, and their splits; `prepare.py` makes them."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from dae_ssl import config
from dae_ssl.data.prepared import require_prepared
from dae_ssl.files import Digests
from dae_ssl.store import Store, products_digest

Read = TypeVar("Read")

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images on a device: uint8 (n, 3, h, w), labels int64 (n,), ids int64 (n,), and the labels' class names.

    `ids` are row numbers in the prepared split, which stay the same in every subset.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.ids.to(device), self.classes)

    def subset(self, rows: torch.Tensor) -> "ImageSet":
        """Return the images at `rows`, int64 (k,), in that order."""
        rows = rows.to(self.images.device)
        return ImageSet(self.images.index_select(0, rows), self.labels[rows], self.ids[rows], self.classes)


class Memo:
    """What a run has read and need not read again: image sets on their device, and the digests of files.

    Whoever computes several nodes in one process holds one, and drops it when the run ends. The sets are shared, so
    nobody changes them in place.
    """

    def __init__(self) -> None:
        self.digests = Digests()
        self._read: dict[Hashable, Any] = {}
        self._left: dict[str, Any] = {}

    def once(self, key: Hashable, read: Callable[[], Read]) -> Read:
        """Return what `read` returned when the key was first given."""
        if key not in self._read:
            self._read[key] = read()
        return cast(Read, self._read[key])

    def leave(self, digest: str, content: object) -> None:
        """Keep what a file holds, named by its digest, for a stage that comes to read it; drop what was left before."""
        self._left = {digest: content}

    def take(self, digest: str) -> Any:
        """Return what was left under a digest and keep it no longer; None if there is nothing."""
        return self._left.pop(digest, None)


def load(store: Store, name: str, split: str, device: torch.device | str, memo: Memo | None = None) -> ImageSet:
    """Load one split, "train" or "test", of a prepared set onto a device; with a memo once for each content.

    Raises DataError if the set is not prepared, and StoreError if a file of it changed since.
    """
    config.require(split in SPLITS, "split", split, " or ".join(SPLITS))
    require_prepared(store, name)
    node, memo = store.data(name), memo or Memo()

    def read() -> ImageSet:
        record = node.verify(memo.digests)
        arrays = (_mapped(node.product(f"{split}-{part}.npy")) for part in ("images", "labels"))
        images, labels = (torch.from_numpy(array).to(device, copy=True) for array in arrays)
        return ImageSet(images, labels, torch.arange(len(labels), device=device), tuple(record["classes"]))

    return memo.once((node.path, products_digest(node.record() or node.verify()), split, str(device)), read)


def evaluation_splits(
    store: Store, data: config.Data, device: torch.device | str, memo: Memo | None = None
) -> dict[str, ImageSet]:
    """Load the evaluation set as "train", "validation" (drawn from the training images used) and "test"."""
    memo = memo or Memo()
    every, test = (load(store, data.evaluate, split, device, memo) for split in SPLITS)

    def draw() -> dict[str, ImageSet]:
        train = _few(every, data.evaluate_images, "evaluate_images", data.evaluate, drawn_for="evaluate_images")
        train_rows, validation_rows = split_validation(train.labels, data.validation_images, data.split_seed)
        return {"train": train.subset(train_rows), "validation": train.subset(validation_rows), "test": test}

    return memo.once((every, test, data.evaluate_images, data.validation_images, data.split_seed), draw)


def pretraining_images(
    store: Store, data: config.Data, device: torch.device | str, memo: Memo | None = None
) -> ImageSet:
    """Load the pretraining images: all, or a fixed random `pretrain_images` of them, smaller draws within larger."""
    memo, count = memo or Memo(), data.pretrain_images
    train = load(store, data.pretrain, "train", device, memo)
    return memo.once(
        (train, count), lambda: _few(train, count, "pretrain_images", data.pretrain, drawn_for="pretraining")
    )


def _few(images: ImageSet, count: int | None, setting: str, name: str, *, drawn_for: str) -> ImageSet:
    """Return a fixed random `count` of the images of a set, or all; smaller draws lie within larger ones.

    `setting` and `name` are for people; what is drawn depends on `drawn_for`, and stays what it is under its key.
    """
    if count is None:
        return images
    choices = f"null (all) or at most {len(images)}, the training images of {name}"
    config.require(count <= len(images), f"data.{setting}", count, choices)
    return images.subset(torch.tensor(sorted(_shuffled(range(len(images)), drawn_for, 0)[:count])))


def split_validation(labels: torch.Tensor, validation_images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (training rows, validation rows), int64 and ascending, stratified by the labels, int64 (n,).

    A pure function, the same for every version of every library: the rows of a class are ordered by the SHA-256 of
    (seed, row) and the first ones taken. A class gives its share of `validation_images`, rounded down; what is then
    missing comes one each from the classes with the largest remainders, the lower label first among equals.
    Raises ConfigError when a class would have no training image left.
    """
    classes = labels.cpu().numpy()
    present, counts = np.unique(classes, return_counts=True)
    taken, remainders = np.divmod(counts * validation_images, max(len(classes), 1))
    short = validation_images - int(taken.sum())
    taken[np.argsort(-remainders, kind="stable")[:short]] += 1
    choices = f"fewer, so that each of {len(present)} classes keeps a training image ({len(classes)} images in all)"
    config.require(bool((taken < counts).all()), "data.validation_images", validation_images, choices)
    chosen = np.zeros(len(classes), dtype=bool)
    for label, k in zip(present.tolist(), taken.tolist(), strict=True):
        rows = np.flatnonzero(classes == label).tolist()
        chosen[_shuffled(rows, "validation", seed)[:k]] = True
    return torch.from_numpy(np.flatnonzero(~chosen)), torch.from_numpy(np.flatnonzero(chosen))


def _shuffled(rows: Sequence[int], purpose: str, seed: int) -> list[int]:
    return sorted(rows, key=lambda row: hashlib.sha256(f"{purpose} {seed} {row}".encode()).digest())


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
