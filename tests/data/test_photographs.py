"""The embedded photographs: the same bytes everywhere, splits without a common pixel, and only files that are known."""

import shutil
import socket
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dae_ssl.data import photographs as module
from dae_ssl.data import prepare
from dae_ssl.data.photographs import FILES, PATCHES, SIDES, photographs, shrunk, square
from dae_ssl.data.prepared import DataError
from dae_ssl.store import Store
from tests.data.trees import silent

GOLDEN = {
    "train": "8ba2079d04e725a098b70d0e0243c656d8c15049002d2bd53cdd886ae75b1841",
    "test": "9ba8a5c2e19a2ae43d8315029aef04a949ef439a8ddf296d86132b71173e1f1e",
}
"""By split, as `prepare.digest` has it: results in stores rely on these bytes, so the name needs them for ever."""


def test_set_has_the_same_bytes_everywhere_and_needs_no_network(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    record = prepare.prepare(store, "photographs", "photographs", tell=silent)
    assert {split: facts["digest"] for split, facts in record["splits"].items()} == GOLDEN
    assert {split: facts["images"] for split, facts in record["splits"].items()} == {"train": 3960, "test": 1260}
    assert "CC0, public domain" in record["source"]
    assert record["classes"] == sorted(FILES)


def test_every_photograph_gives_as_many_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATCHES", {"train": 4, "test": 3})
    content = photographs()
    assert content.classes == tuple(FILES)
    for split, count in {"train": 4, "test": 3}.items():
        images, labels = content.splits[split]
        assert (images.dtype, images.shape) == (np.uint8, (12 * count, 3, 32, 32))
        assert labels.tolist() == [label for label in range(12) for _ in range(count)]


@pytest.mark.parametrize("width", [384, 451, 512])
def test_no_pixel_serves_training_and_test(width: int) -> None:
    border = width * 65 // 100
    picture = np.zeros((172, width, 3), np.uint8)
    picture[:, border:] = 255
    assert not module._patches(picture, "coins", "train").any()
    assert (module._patches(picture, "coins", "test") == 255).all()


def test_squares_have_every_side_and_reach_every_edge() -> None:
    drawn = [square("coins", "train", number, 303, 249) for number in range(5000)]
    assert {side for side, _, _ in drawn} == {*SIDES}
    assert min(row for _, row, _ in drawn) == min(column for _, _, column in drawn) == 0
    assert max(side + row for side, row, _ in drawn) == 303
    assert max(side + column for side, _, column in drawn) == 249
    assert len({*drawn[: PATCHES["train"]]}) == PATCHES["train"]
    assert drawn[:3] != [square("coins", "test", number, 303, 249) for number in range(3)]


@pytest.mark.parametrize("side", [32, 33, 47, 63, 64])
def test_shrinking_takes_means_over_areas(side: int) -> None:
    patch = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    found = shrunk(patch)
    for row, column in [(0, 0), (5, 17), (20, 31), (31, 31)]:
        for channel in range(3):
            mean = _mean(patch[..., channel], row, column)
            assert found[channel, row, column] == int(mean + Fraction(1, 2)), (row, column, channel)


def _mean(patch: np.ndarray, row: int, column: int) -> Fraction:
    """Return the mean over the area that a pixel of the result covers, pixel by pixel."""
    side = len(patch)
    down, across = ([_shared(pixel, covering, side) for pixel in range(side)] for covering in (row, column))
    every = ((y, x) for y in range(side) for x in range(side) if down[y] and across[x])
    return sum(int(patch[y, x]) * down[y] * across[x] for y, x in every) / Fraction(side, 32) ** 2


def _shared(pixel: int, covering: int, side: int) -> Fraction:
    first, last = Fraction(covering * side, 32), Fraction((covering + 1) * side, 32)
    return max(Fraction(0), min(last, Fraction(pixel + 1)) - max(first, Fraction(pixel)))


def test_other_files_are_refused_by_their_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "data"
    shutil.copytree(module._folder(), copy)
    monkeypatch.setattr(module, "_folder", lambda: copy)
    (copy / "coins.png").write_bytes((copy / "grass.png").read_bytes())
    with pytest.raises(DataError, match=r"coins\.png has the SHA-256 b6b6022426b3, .* f8d773fc9cfa: install"):
        photographs()
    (copy / "coins.png").unlink()
    with pytest.raises(DataError, match=r"coins\.png cannot be read \(No such file or directory\): install"):
        photographs()


def test_missing_scikit_image_is_one_line_and_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="scikit-image, which is not installed: pip install scikit-image") as refused:
        prepare.prepare(store, "photographs", "photographs", tell=silent)
    assert "\n" not in str(refused.value)
    assert not store.root.exists()
