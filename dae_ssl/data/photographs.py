"""`photographs`: small colour patches of the photographs that scikit-image's wheel carries; no network is needed.

The label of a patch is the photograph that it was cut from. Training patches come from the left 65 % of a photograph
and test patches from the rest, so that no pixel serves both.

    astronaut   Eileen Collins, NASA                       public domain
    brick       a brick wall, CC0Textures                  CC0
    camera      a man with a camera, Lav Varshney          CC0
    cell        a cell in saline, Paul Müller and others   CC0
    chelsea     a cat, Stefan van der Walt                 CC0
    clock       a wall clock, Stefan van der Walt          public domain
    coffee      a cup of coffee, Rachel Michetti           CC0
    coins       Greek coins, Brooklyn Museum               no known copyright restrictions
    grass       a lawn, DeviantArt's linolafett            CC0
    gravel      gravel, CC0Textures                        CC0
    ihc         stained tissue, CMMI                       no known copyright restrictions
    text        handwriting on paper, Wikipedia            public domain

Sources and licences are those that the docstrings of `skimage.data` state. The wheel's other photographs are left out:
for moon, page and motorcycle no licence is stated there, and hubble_deep_field, retina and rocket are JPEG files,
whose pixels depend on the decoder.

Everything is whole-number arithmetic on losslessly compressed files whose SHA-256 is checked, so that the set has the
same bytes on every machine.
"""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dae_ssl.data.prepared import SIDE, SPLITS, DataError
from dae_ssl.data.sources import Content, Uint8

FILES = {
    "astronaut": ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    "brick": ("brick.png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf"),
    "camera": ("camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a"),
    "cell": ("cell.png", "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515"),
    "chelsea": ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "clock": ("clock_motion.png", "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955"),
    "coffee": ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "coins": ("coins.png", "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba"),
    "grass": ("grass.png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89"),
    "gravel": ("gravel.png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12"),
    "ihc": ("ihc.png", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
    "text": ("text.png", "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1"),
}
"""Every photograph's file in scikit-image's data folder, and the file's SHA-256."""

PATCHES = {"train": 330, "test": 105}
"""How many are cut from each photograph."""
TRAINING_PERCENT = 65
SIDES = range(SIDE, 2 * SIDE)
"""Sides of the squares that are cut, in pixels; each is shrunk to SIDE."""


def photographs() -> Content:
    """Return patches of the photographs as 32 x 32 RGB images, 3,960 for training and 1,260 for test.

    Raises DataError, in one line, where scikit-image is missing or its files are not those that are known here.
    """
    folder = _folder()
    pictures = [_read(folder / file, sha256) for file, sha256 in FILES.values()]
    splits = {}
    for split in SPLITS:
        patches = [_patches(picture, name, split) for name, picture in zip(FILES, pictures, strict=True)]
        labels = np.arange(len(FILES), dtype=np.int64).repeat(PATCHES[split])
        splits[split] = np.concatenate(patches), labels
    source = f"{len(FILES)} photographs in scikit-image (CC0, public domain or without known copyright restrictions)"
    return Content(splits, tuple(FILES), source)


def _folder() -> Path:
    """Return the folder of scikit-image's pictures, without importing it, which takes seconds."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise DataError("photographs come with scikit-image, which is not installed: pip install scikit-image")
    return Path(package.origin).parent / "data"


def _read(path: Path, sha256: str) -> Uint8:
    """Return a picture as uint8 (h, w, 3), if its file is the known one."""
    from PIL import Image

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): install scikit-image 0.25 or newer again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} has the SHA-256 {found[:12]}, the photograph that is known here {sha256[:12]}: install "
            "scikit-image 0.26 again"
        )
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _patches(picture: Uint8, name: str, split: str) -> Uint8:
    """Return a photograph's patches of a split, uint8 (n, 3, SIDE, SIDE)."""
    height, width, _ = picture.shape
    border = width * TRAINING_PERCENT // 100
    left, right = (0, border) if split == "train" else (border, width)
    cut = []
    for number in range(PATCHES[split]):
        side, row, column = square(name, split, number, height, right - left)
        cut.append(shrunk(picture[row : row + side, left + column : left + column + side]))
    return np.stack(cut)


def square(name: str, split: str, number: int, height: int, width: int) -> tuple[int, int, int]:
    """Return side, first row and first column of a photograph's patch in a region of so many pixels.

    They are drawn evenly by the SHA-256 of (photograph, split, number of the patch), as the same on every machine.
    """
    drawn = hashlib.sha256(f"photographs {name} {split} {number}".encode()).digest()
    size, down, across = (int.from_bytes(drawn[start : start + 8], "big") for start in (0, 8, 16))
    side = SIDES[size % len(SIDES)]
    return side, down % (height - side + 1), across % (width - side + 1)


def shrunk(patch: Uint8) -> Uint8:
    """Return a square patch (s, s, 3) with s >= SIDE as (3, SIDE, SIDE): means over areas, halves rounded up.

    A pixel of the result covers s / SIDE pixels in each direction, those at its edges in part. All weights are whole
    numbers, whose sum is s * s, so that nothing depends on the order of a sum.
    """
    side = len(patch)
    weights = _overlaps(side)
    total = weights @ patch.transpose(2, 0, 1).astype(np.int64) @ weights.T
    return ((2 * total + side * side) // (2 * side * side)).astype(np.uint8)


def _overlaps(side: int) -> npt.NDArray[np.int64]:
    """Return how much of each of `side` pixels each of SIDE pixels covers, in units of 1 / SIDE: (SIDE, side)."""
    covering, covered = np.arange(SIDE)[:, None] * side, np.arange(side)[None] * SIDE
    shared: npt.NDArray[np.int64] = np.minimum(covering + side, covered + SIDE) - np.maximum(covering, covered)
    return shared.clip(min=0)
