"""Frozen encoder -> HDF5, and back. The one user of h5py.

/                       attributes: format, version, the caller's, and `complete`
/SPLIT/representations  (n, d) float16 or float32, contiguous
/SPLIT/labels           (n,) int64
/SPLIT/ids              (n,) int64, the images' numbers in the data set

HDF5 first lays out the file without the representations; these are then written in place from front to back, so that
the whole file is hashed while it is written. It appears under its name when it is complete.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import torch
from torch import Tensor

from dae_ssl.files import Overwriting, StoreError, Written, appearing, overwriting

FORMAT = "dae_ssl features"
VERSION = 1
SPLITS = ("train", "validation", "test")
DTYPES = {"float16": torch.float16, "float32": torch.float32}

Attribute = str | int | float | bool


class FeaturesError(StoreError):
    """A features file cannot be written or trusted; the message is one line with the reason."""


class ImageSplit(Protocol):
    """What `write` needs from a split, on any device."""

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


class Kept:
    """Keeps representations, exactly as they are stored, on the GPU that computes them.

    Without a GPU, or if its memory is too small for them, nothing is kept.
    """

    SPARE = 8
    """This many times their size must be free: probes hold float32 copies, and other processes may use the GPU."""

    def __init__(self, splits: Mapping[str, ImageSplit]) -> None:
        self._splits, self._memory = splits, dict[str, Tensor]()

    def take(self, split: str, start: int, rows: Tensor) -> None:
        """Keep a batch (b, d) of stored values, the split's images from `start` on; batches come in order."""
        if start == 0 and split == next(iter(self._splits)) and self.fits(rows):
            self._memory = {
                name: rows.new_empty(len(of_name.images), rows.shape[1]) for name, of_name in self._splits.items()
            }
        if self._memory:
            self._memory[split][start : start + len(rows)] = rows

    def fits(self, rows: Tensor) -> bool:
        """Return whether the representations of all splits fit on the device of these rows."""
        needed = sum(len(split.images) for split in self._splits.values()) * rows[0].nbytes
        return rows.is_cuda and torch.cuda.mem_get_info(rows.device)[0] >= self.SPARE * needed

    def sets(self) -> dict[str, FeatureSet] | None:
        """Return all splits if they were kept; None otherwise."""
        if not self._memory:
            return None
        return {
            name: FeatureSet(representations=self._memory[name], labels=split.labels, ids=split.ids)
            for name, split in self._splits.items()
        }


def write(
    path: Path,
    splits: Mapping[str, ImageSplit],
    encode: Callable[[Tensor], Tensor],
    *,
    dtype: str,
    attributes: Mapping[str, Attribute],
    batch_size: int = 1024,
    kept: Kept | None = None,
) -> Written:
    """Write the representations of all splits to a new file, which appears when it is whole; return its digest.

    `encode` takes uint8 images (b, channels, height, width) and returns floats (b, d), with the same d each time: a
    frozen encoder, a random one, or the pixels themselves. `attributes` describe the file, for example its node and
    settings; `read` can require them. Memory holds a few batches, whatever the number of images: while one is written
    and others are hashed, the device computes the next. `kept` receives the representations too, if they fit.

    Raises FeaturesError for a representation that is not finite in `dtype`, and for an unknown dtype or split.
    """
    if dtype not in DTYPES:
        raise FeaturesError(f"dtype={dtype!r}: choose {' or '.join(DTYPES)}")
    if unknown := set(splits) - set(SPLITS):
        raise FeaturesError(f"split {sorted(unknown)[0]!r}: choose from {', '.join(SPLITS)}")
    for name in (name for name in splits if not len(splits[name].images)):
        raise FeaturesError(f"split {name!r} has no images: leave it out")
    batches = _encoded(splits, encode, dtype, batch_size, kept)
    first = next(batches)
    with appearing(path) as temporary:
        places = _lay_out(temporary, splits, first.rows.shape[1], dtype, attributes)
        with overwriting(temporary) as file:
            for batch in itertools.chain([first], batches):
                rows = batch.rows.numpy()
                file.write(places[batch.split] + batch.start * rows[0].nbytes, rows.reshape(-1).view(np.uint8).data)
            return file.finish()


def _lay_out(
    path: Path, splits: Mapping[str, ImageSplit], width: int, dtype: str, attributes: Mapping[str, Attribute]
) -> dict[str, int]:
    """Write a file without the representations; return the offset in bytes at which those of each split start."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    places = {}
    with h5py.File(path, "w") as file:
        sizes = {f"{name}_images": len(split.images) for name, split in splits.items()}
        file.attrs.update({**attributes, "format": FORMAT, "version": VERSION, **sizes, "complete": True})
        for name, split in splits.items():
            group = file.create_group(name)
            group["labels"], group["ids"] = split.labels.cpu().numpy(), split.ids.cpu().numpy()
            stored = group.create_dataset("representations", (len(split.images), width), dtype, dcpl=early)
            places[name] = stored.id.get_offset()
    if None in places.values():
        raise FeaturesError(f"{path}: HDF5 {h5py.version.hdf5_version} gives no offset of contiguous data: update h5py")
    return places


@dataclass(frozen=True)
class _Batch:
    """Representations (b, d) of a split's images from `start` on, in memory that later batches will reuse."""

    split: str
    start: int
    rows: Tensor


class _Landing:
    """Host memory to which a batch is copied while its device goes on; pinned for CUDA, which copies asynchronously."""

    def __init__(self, rows: Tensor, batch_size: int) -> None:
        self.memory = torch.empty(batch_size, rows.shape[1], dtype=rows.dtype, pin_memory=rows.is_cuda)
        self.finite = torch.empty((), dtype=torch.bool, pin_memory=rows.is_cuda)
        self.landed = torch.cuda.Event() if rows.is_cuda else None

    def start(self, rows: Tensor) -> None:
        """Start to copy representations (b, d), and the answer whether all of them are finite."""
        if rows.shape[1:] != self.memory.shape[1:]:
            raise ValueError(f"representations are {tuple(rows.shape)}: the first had {self.memory.shape[1]} features")
        self.memory[: len(rows)].copy_(rows, non_blocking=True)
        self.finite.copy_(rows.isfinite().all(), non_blocking=True)
        if self.landed is not None:
            self.landed.record()

    def wait(self) -> bool:
        """Wait until the copy is complete, and return whether all representations are finite."""
        if self.landed is not None:
            self.landed.synchronize()
        return bool(self.finite)


def _encoded(
    splits: Mapping[str, ImageSplit],
    encode: Callable[[Tensor], Tensor],
    dtype: str,
    batch_size: int,
    kept: Kept | None,
) -> Iterator[_Batch]:
    """Yield all batches in order, each while the next one is being computed.

    A batch's memory is reused after `Overwriting.WAITING` further batches, by which time it is hashed.
    """
    landings: list[_Landing] = []
    under_way = None
    for number, (name, start) in enumerate(
        (name, start) for name, split in splits.items() for start in range(0, len(split.images), batch_size)
    ):
        with torch.no_grad():
            encoded = encode(splits[name].images[start : start + batch_size])
            rows = encoded.to(DTYPES[dtype])
        if kept is not None:
            kept.take(name, start, rows)
        if len(landings) < Overwriting.WAITING + 2:
            landings.append(_Landing(rows, batch_size))
        landing = landings[number % len(landings)]
        landing.start(rows)
        if under_way is not None:
            yield _landed(*under_way, splits, dtype)
        under_way = name, start, encoded, landing
    if under_way is not None:
        yield _landed(*under_way, splits, dtype)


def _landed(
    name: str, start: int, encoded: Tensor, landing: _Landing, splits: Mapping[str, ImageSplit], dtype: str
) -> _Batch:
    """Return a batch once its copy is complete. Raises FeaturesError unless all of it is finite."""
    rows, finite = landing.memory[: len(encoded)], landing.wait()
    if not finite:
        row = int((~rows.isfinite()).any(1).nonzero()[0])
        raise FeaturesError(
            f"{name} image {int(splits[name].ids[start + row])}: a representation of size "
            f"{float(encoded[row].abs().max()):g} is not finite in {dtype}; "
            + ("choose float32" if encoded.isfinite().all() else "the encoder has diverged")
        )
    return _Batch(name, start, rows)


def read(
    path: Path, split: str, *, expect: Mapping[str, Attribute] | None = None, device: str | torch.device = "cpu"
) -> FeatureSet:
    """Read one split directly into the memory that is returned, at about the speed of the file.

    `expect` gives attributes that the file must have, for example {"node": KEY}. Raises FeaturesError for a file that
    is missing, of another format, truncated, incomplete or not the expected one, and for a split that it lacks.
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
    """Open a finished features file; every error of HDF5 in the block becomes a FeaturesError of one line."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise FeaturesError(f"{path} is HDF5, but not a features file: delete it and run the cell again")
            if file.attrs.get("version") != VERSION:
                version = file.attrs.get("version")
                advice = f"this program reads {VERSION}: delete it and run the cell again"
                raise FeaturesError(f"{path} has format version {version}, {advice}")
            if not file.attrs.get("complete", False):
                raise FeaturesError(f"{path} is incomplete: delete it and run the cell again")
            yield file
    except FileNotFoundError:
        raise FeaturesError(f"{path} does not exist: run the cell again, which computes its features") from None
    except (OSError, KeyError, RuntimeError) as error:
        if isinstance(error, FeaturesError):
            raise
        reason = " ".join(str(error).split())
        advice = "delete it and run the cell again"
        raise FeaturesError(f"{path} is truncated, damaged or not an HDF5 file ({reason}): {advice}") from None


def _require_expected(path: Path, file: Any, expect: Mapping[str, Attribute]) -> None:
    for name, value in expect.items():
        stored = file.attrs.get(name, "none")
        if stored != value:
            raise FeaturesError(f"{path} has {name}={stored}, where {value} is expected: delete it and run again")


def _array(dataset: Any) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)
    return array
