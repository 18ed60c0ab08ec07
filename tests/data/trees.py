"""Image sets in the forms in which people have them, small and made up."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from dae_ssl.data import sets

NAMES = ("frog", "apple", "cat", "bird", "dog", "deer", "horse", "ship", "truck", "plane")  # not alphabetical


def silent(_: str) -> None:
    pass


def pixels(images: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (images, 3, side, side), dtype=np.uint8)


def write_tree(root: Path, splits: dict[str, tuple[np.ndarray, list[str]]]) -> Path:
    for split, (images, names) in splits.items():
        for row, (image, name) in enumerate(zip(images, names, strict=True)):
            path = root / split / name / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return root


def small_tree(root: Path, seed: int = 0, side: int = 32) -> Path:
    named = [NAMES[row % 10] for row in range(40)]
    return write_tree(
        root, {"train": (pixels(40, side, seed), named), "test": (pixels(20, side, seed + 1), named[:20])}
    )


def write_official(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Write tiny files in the layout of CIFAR-10, make their checksums the published ones, and return the content."""

    def dumped(name: str, value: object) -> list[str]:
        content = pickle.dumps(value)
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    content = {
        "train": (pixels(40), [3, 1, 4, 0, 5, 9, 2, 6, 8, 7] * 4),
        "test": (pixels(20, seed=1), [*range(10)] * 2),
    }
    files = {
        split: dumped(split, {"data": images.reshape(len(images), -1), "labels": labels})
        for split, (images, labels) in content.items()
    }
    name, checksum = dumped("batches.meta", {"label_names": list(NAMES)})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    (root / "cifar-10-python.tar.gz").write_bytes(archive.getvalue())
    own = {
        "train_list": [files["train"]],
        "test_list": [files["test"]],
        "meta": {"filename": name, "key": "label_names", "md5": checksum},
        "tgz_md5": hashlib.md5(archive.getvalue()).hexdigest(),
    }
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", type("TinyCIFAR10", (torchvision.datasets.CIFAR10,), own))
    return {split: (images, [NAMES[label] for label in labels]) for split, (images, labels) in content.items()}


def digests(record: dict) -> dict[str, str]:
    return {split: own["digest"] for split, own in record["splits"].items()}


def by_pixels(loaded: sets.ImageSet) -> dict[bytes, str]:
    """Return the class name of each image."""
    labelled = zip(loaded.images, loaded.labels.tolist(), strict=True)
    return {image.numpy().tobytes(): loaded.classes[label] for image, label in labelled}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
