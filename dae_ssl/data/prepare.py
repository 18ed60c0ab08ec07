"""Preparing image sets from what users have: downloads, official archives, folder trees, scikit-learn's digits.

A prepared set holds the same bytes whatever it was made from: the images of each split are sorted by label and then by
the SHA-256 of their pixels, labels number the class names in alphabetical order, and a digest of it all is recorded.
"""

import dataclasses
import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from dae_ssl import config
from dae_ssl.data.prepared import DataError
from dae_ssl.data.sets import SPLITS, split_validation
from dae_ssl.files import StoreError, appearing
from dae_ssl.lock import held
from dae_ssl.store import RECORD, Folder, Store

Uint8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

Source = Path | Literal["download", "digits"]
"""Where images come from: a path as `from_path` takes it, or one of these."""


@dataclass(frozen=True)
class Official:
    """What is known of a published set: images and digest of each split (None where no digest is known)."""

    reader: str
    classes: int
    splits: dict[str, tuple[int, str | None]]


OFFICIAL = {
    "cifar10": Official(
        "CIFAR10",
        10,
        {
            "train": (50_000, "88b69a7d370034212686ce393659c99cb9cea8769f86a67940bf1ade8483db85"),
            "test": (10_000, "bb45d9111b8672b72acf1e52ad53b3528c9341ea9d75726c68dbb8090c9c70a5"),
        },
    ),
    "cifar100": Official(
        "CIFAR100",
        100,
        {"train": (50_000, "f4118b66af1680f6fa7b1e086abdc404a091688ecdd69c0d2a3c007e933d8e49"), "test": (10_000, None)},
    ),
}
"""The collections of Krizhevsky (2009), with torchvision's reader of each; digests of their pixels by `digest`."""


@dataclass(frozen=True, eq=False)
class Content:
    """Images as read from a source: per split, images uint8 (n, 3, h, w) and labels int64 (n,) into `classes`."""

    splits: dict[str, tuple[Uint8, Int64]]
    classes: tuple[str, ...]
    source: str
    """Where they come from, in words, for the record."""
    checksums_match: bool = False
    """True where the files read have the published checksums."""


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
    else:
        content = from_path(name, source, size=size, tell=tell)
    content = canonical(content)
    facts: dict[str, Any] = {"name": name, "source": content.source, "classes": list(content.classes), "splits": {}}
    for split, (images, labels) in content.splits.items():
        own = {
            "images": len(images),
            "shape": list(images.shape[1:]),
            "digest": digest(images, labels, content.classes),
        }
        facts["splits"][split] = own
    facts["official"] = content.checksums_match or _is_official(name, facts["splits"])
    node = store.data(name)
    with held(node.lock, tell=tell):
        record = _kept(node, facts["splits"])
        tell(f"{node.path}: {'already prepared, with' if record else 'prepared'} {_counts(facts)}")
        record = record or _write(node, content, facts)
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
        own = facts["splits"][split]
        if own["images"] != count:
            said.append(f"{split} has {own['images']} images where the official set has {count}")
        elif known is None:
            said.append(f"{split} has the official number of images, whose pixels are not known here")
        else:
            said.append(f"{split} {'is the official one' if own['digest'] == known else 'has different pixels'}")
    return f"not known to be the official {OFFICIAL[name].reader}: {'; '.join(said)}"


def _is_official(name: str, splits: dict[str, Any]) -> bool:
    known = OFFICIAL[name].splits if name in OFFICIAL else {}
    return bool(known) and all(splits[split]["digest"] == sha for split, (_, sha) in known.items())


def _counts(facts: dict[str, Any]) -> str:
    counts = (f"{facts['splits'][split]['images']} {split}" for split in SPLITS)
    return f"{' and '.join(counts)} images of {len(facts['classes'])} classes from {facts['source']}"


def _kept(node: Folder, splits: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of an intact set with the same content, or None if the set has to be written."""
    record = node.record()
    if record is None:
        return None
    if record["splits"] != splits:
        raise DataError(
            f"{node.path} holds other images ({_counts(record)}): use another name for these, "
            "since what was computed from a set's name relies on its content"
        )
    try:
        return node.verify()
    except StoreError:
        return None


def _write(node: Folder, content: Content, facts: dict[str, Any]) -> dict[str, Any]:
    node.create()
    node.product(RECORD).unlink(missing_ok=True)  # that of a damaged set: none while files change
    for split, (images, labels) in content.splits.items():
        _save(node.product(f"{split}-images.npy"), images)
        _save(node.product(f"{split}-labels.npy"), labels)
    return node.commit(facts)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with appearing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


# ---------------------------------------------------------------------------------- sources


def from_path(name: str, path: Path, *, size: int | None = None, tell: Callable[[str], None] = print) -> Content:
    """Read what lies at a path: an official CIFAR archive or its extracted folder, or a `split/class/image` tree.

    A folder may hold any of these, a tree also in a sub-folder called `name`. With `size`, the images of a tree are
    resized to (size, size): the shorter side resized, the centre kept. Raises DataError.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: name an official archive or a folder of images")
    path = path.resolve()
    if name in OFFICIAL:
        import torchvision

        reader = getattr(torchvision.datasets, OFFICIAL[name].reader)
        folder = path.parent if path.name == reader.base_folder else path
        if (folder / reader.base_folder).is_dir():
            return read_official(reader, folder, str(path))
        archive = path if path.is_file() else path / reader.filename
        if archive.is_file():
            return _read_archive(reader, archive, str(archive))
    if path.is_file():
        raise DataError(f"{path} is a file: only {', '.join(OFFICIAL)} are read from archives; name a folder of images")
    tree = path / name if (path / name / "train").is_dir() else path
    content = _read_tree(tree, size, tell)
    if name in OFFICIAL and len(content.classes) != OFFICIAL[name].classes:
        raise DataError(
            f"{tree} has {len(content.classes)} classes, {name} has {OFFICIAL[name].classes}: use another "
            "name for these images"
        )
    return content


def downloaded(name: str) -> Content:
    """Download an official archive to a temporary folder and read it. Raises DataError, also for other names."""
    if name not in OFFICIAL:
        raise DataError(f"{name} cannot be downloaded, only {', '.join(OFFICIAL)} can: use --from FOLDER")
    import torchvision
    from torchvision.datasets.utils import download_url

    reader = getattr(torchvision.datasets, OFFICIAL[name].reader)
    with tempfile.TemporaryDirectory() as folder:
        try:
            download_url(reader.url, folder, reader.filename, reader.tgz_md5)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"cannot download {reader.url} ({reason}): fetch it where there is a network, then use "
                f"`dae-ssl data {name} --from {reader.filename}`"
            ) from error
        return _read_archive(reader, Path(folder) / reader.filename, reader.url)


def digits() -> Content:
    """Return scikit-learn's embedded digits as 32 x 32 RGB images, 1,297 for training and 500 for test.

    The 8 x 8 grey levels 0 to 16 become 0 to 255, rounded; each pixel is repeated 4 x 4 times and in three channels.
    The split is the stratified one of `split_validation` with seed 0.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[:, None], 3, axis=1)
    labels = bunch.target.astype(np.int64)
    rows = split_validation(torch.from_numpy(labels), validation_images=500, seed=0)
    splits = {split: (images[own.numpy()], labels[own.numpy()]) for split, own in zip(SPLITS, rows, strict=True)}
    return Content(splits, tuple(str(name) for name in bunch.target_names), "scikit-learn's digits")


def read_official(reader: Any, folder: Path, source: str) -> Content:
    """Read extracted CIFAR files in `folder` with torchvision's `reader` class.

    The files are pickles, which can run anything when read: the reader does so only when every checksum is the
    published one. Raises DataError when one is not.
    """
    try:
        read = {split: reader(root=folder, train=split == "train") for split in SPLITS}
    except RuntimeError as error:
        raise DataError(
            f"{folder / reader.base_folder} does not have the files with the published checksums, and no "
            f"others are unpickled: use the original {reader.filename}"
        ) from error
    splits = {split: (own.data.transpose(0, 3, 1, 2), np.array(own.targets, np.int64)) for split, own in read.items()}
    return Content(splits, tuple(read["train"].classes), source, checksums_match=True)


def _read_archive(reader: Any, archive: Path, source: str) -> Content:
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(archive, reader.tgz_md5):
        raise DataError(
            f"{archive} does not have the published MD5 {reader.tgz_md5}, and nothing else is unpickled: "
            f"use the original {reader.filename}, or --from a folder of split/class/image"
        )
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        return read_official(reader, Path(folder), source)


def _read_tree(root: Path, size: int | None, tell: Callable[[str], None]) -> Content:
    """Read train/CLASS/IMAGE and test/CLASS/IMAGE; any other split is left out, and said to be."""
    from torchvision.datasets import ImageFolder

    found = sorted(path.name for path in root.iterdir() if path.is_dir())
    missing = sorted(set(SPLITS) - set(found))
    if missing:
        raise DataError(
            f"{root} has no folder {' and no '.join(missing)} (found: {', '.join(found) or 'none'}): name a folder "
            "with train/CLASS/IMAGE and test/CLASS/IMAGE (validation is split off train), or an official CIFAR archive"
        )
    for other in set(found) & {"val", "valid", "validation"}:
        tell(f"{root / other} is left out: the validation split is drawn from train")
    try:
        listed = {split: ImageFolder(str(root / split)) for split in SPLITS}
    except OSError as error:
        raise DataError(f"{root}: {' '.join(str(error).split())}") from error
    classes = listed["train"].classes
    if listed["test"].classes != classes:
        odd = ", ".join(sorted(set(classes) ^ set(listed["test"].classes))[:5])
        raise DataError(f"{root}: train and test must have the same classes, and only one of them has {odd}")
    shape = None
    splits = {}
    for split, images_of in listed.items():
        paths = [Path(path) for path, _ in images_of.samples]
        shape = shape or _decoded(paths[0], size, None).shape
        splits[split] = (_decoded_all(paths, size, shape, split), np.array(images_of.targets, dtype=np.int64))
    return Content(splits, tuple(classes), str(root))


def _decoded_all(paths: Sequence[Path], size: int | None, shape: tuple[int, ...], split: str) -> Uint8:
    """Return the images as uint8 (n, 3, h, w), read by a pool of threads: Pillow decodes outside Python's lock."""
    from tqdm import tqdm

    images = np.empty((len(paths), *shape), dtype=np.uint8)
    with ThreadPool() as pool:
        reading = pool.imap(lambda path: _decoded(path, size, shape), paths, chunksize=64)
        for row, image in enumerate(tqdm(reading, desc=split, total=len(paths), unit=" images", disable=None)):
            images[row] = image
    return images


def _decoded(path: Path, size: int | None, shape: tuple[int, ...] | None) -> Uint8:
    """Return an image as uint8 (3, h, w), of this shape if one is given."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode} has more than 8 bits per channel")
            rgb = image.convert("RGB")
        if size is not None:
            rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BICUBIC)
    except Exception as error:  # decoders raise nearly anything: OSError, SyntaxError, EOFError, struct.error, ...
        raise DataError(f"cannot read image {path}: {' '.join(str(error).split())}") from error
    array = np.asarray(rgb).transpose(2, 0, 1)
    if shape is not None and array.shape != shape:
        (height, width), (other_height, other_width) = array.shape[1:], shape[1:]
        raise DataError(
            f"{path} is {width} x {height} pixels, the first image {other_width} x {other_height}: give "
            "--size N to resize them all to N x N"
        )
    return array
