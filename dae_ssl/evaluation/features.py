"""Frozen encoder -> HDF5, and back. The one user of h5py.

/                       attributes: format, version, the caller's, and last of all `complete`
/SPLIT/representations  (n, d) float16 or float32, contiguous
/SPLIT/labels           (n,) int64
/SPLIT/ids              (n,) int64, the images' numbers in the data set
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import torch
from torch import Tensor

from dae_ssl.store import StoreError

FORMAT = "dae_ssl features"
VERSION = 1
SPLITS = ("train", "validation", "test")
DTYPES = {"float16": torch.float16, "float32": torch.float32}

Attribute = str | int | float | bool


class FeaturesError(StoreError):
    """A features file that cannot be written or trusted; the message is one line with the reason."""


class ImageSplit(Protocol):
    """What `write` needs of a split, on any device."""

    @property
    def images(self) -> Tensor:
        """Clean images, uint8 (n, channels, height, width)."""

    @property
    def labels(self) -> Tensor:
        """Classes, int64 (n,)."""

    @property
    def ids(self) -> Tensor:
        """Each image's number in its data set, int64 (n,)."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """One split's representations (n, d) as stored, labels (n,) and ids (n,) int64."""

    representations: Tensor
    labels: Tensor
    ids: Tensor


def write(
    path: Path,
    splits: Mapping[str, ImageSplit],
    encode: Callable[[Tensor], Tensor],
    *,
    dtype: str,
    attributes: Mapping[str, Attribute],
    batch_size: int = 1024,
) -> None:
    """Write the representations of all splits to a new file, batch by batch, and mark it complete.

    `encode` takes uint8 images (b, channels, height, width) and returns floats (b, d), the same d each time; a frozen
    encoder, a random one or the pixels themselves. `attributes` say what the file is, as its node and settings; `read`
    can be told to insist on them. Memory holds one batch, whatever the number of images.

    Raises FeaturesError for a representation that is not finite in `dtype`, and for names that are not known.
    """
    if dtype not in DTYPES:
        raise FeaturesError(f"dtype={dtype!r}: choose {' or '.join(DTYPES)}")
    if unknown := set(splits) - set(SPLITS):
        raise FeaturesError(f"split {sorted(unknown)[0]!r}: choose from {', '.join(SPLITS)}")
    with h5py.File(path, "w") as file:
        file.attrs.update({**attributes, "format": FORMAT, "version": VERSION})
        for name, split in splits.items():
            group = file.create_group(name)
            group["labels"], group["ids"] = split.labels.cpu().numpy(), split.ids.cpu().numpy()
            _write_representations(group, split, encode, dtype, batch_size)
            file.attrs[f"{name}_images"] = len(split.images)
        # A file that lost its writer must not look finished: all else reaches the file before the mark does.
        file.flush()
        file.attrs["complete"] = True


def _write_representations(
    group: h5py.Group, split: ImageSplit, encode: Callable[[Tensor], Tensor], dtype: str, batch_size: int
) -> None:
    images, stored = len(split.images), None
    for start in range(0, images, batch_size):
        with torch.no_grad():
            batch = encode(split.images[start : start + batch_size])
        rows = batch.to(DTYPES[dtype]).cpu()
        if not rows.isfinite().all():
            row = int((~rows.isfinite()).any(1).nonzero()[0])
            raise FeaturesError(
                f"{group.name[1:]} image {int(split.ids[start + row])}: a representation of size "
                f"{float(batch[row].abs().max()):g} is not finite in {dtype}; "
                + ("choose float32" if batch.isfinite().all() else "the encoder has diverged")
            )
        if stored is None:
            stored = group.create_dataset("representations", (images, rows.shape[1]), dtype)
        stored.write_direct(rows.contiguous().numpy(), dest_sel=np.s_[start : start + len(rows)])
    if stored is None:
        raise FeaturesError(f"split {group.name[1:]!r} has no images: leave it out")


def read(
    path: Path, split: str, *, expect: Mapping[str, Attribute] | None = None, device: str | torch.device = "cpu"
) -> FeatureSet:
    """Read one split, straight into the memory it stays in, at about the speed of the file.

    `expect` names attributes the file must have with these values, as {"node": KEY}. Raises FeaturesError for a file
    that is missing, foreign, truncated, incomplete, or another than expected, and for a split it does not hold.
    """
    with _opened(path) as file:
        _require_expected(path, file, expect or {})
        if split not in file:
            raise FeaturesError(f"{path} has no split {split!r}: it holds {', '.join(sorted(file)) or 'none'}")
        arrays = {name: _array(file[split][name]) for name in ("representations", "labels", "ids")}
        rows = int(file.attrs[f"{split}_images"])
    lengths = {name: len(array) for name, array in arrays.items()}
    if set(lengths.values()) != {rows}:
        raise FeaturesError(f"{path} is damaged: split {split!r} should have {rows} rows and has {lengths}")
    return FeatureSet(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()})


def attributes(path: Path) -> dict[str, Attribute]:
    """Return a file's attributes as plain values; raises FeaturesError as `read` does."""
    with _opened(path) as file:
        return {name: value.item() if hasattr(value, "item") else value for name, value in file.attrs.items()}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a finished features file; whatever HDF5 finds wrong while it is open becomes one line."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise FeaturesError(f"{path} is HDF5, but not a features file: write it anew with the features stage")
            if file.attrs.get("version") != VERSION:
                version = file.attrs.get("version")
                raise FeaturesError(f"{path} has format version {version}, this program reads {VERSION}: write it anew")
            if not file.attrs.get("complete", False):
                raise FeaturesError(f"{path} is incomplete, its writer was interrupted: delete it and write it anew")
            yield file
    except FileNotFoundError:
        raise FeaturesError(f"{path} does not exist: run the features stage first") from None
    except (OSError, KeyError, RuntimeError) as error:
        if isinstance(error, FeaturesError):
            raise
        reason = " ".join(str(error).split())
        raise FeaturesError(f"{path} is truncated, damaged or no HDF5 file ({reason}): write it anew") from None


def _require_expected(path: Path, file: Any, expect: Mapping[str, Attribute]) -> None:
    for name, value in expect.items():
        found = file.attrs.get(name, "none")
        if found != value:
            raise FeaturesError(f"{path} is of another {name}: {found} where {value} is expected")


def _array(dataset: Any) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)
    return array
