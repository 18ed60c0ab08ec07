"""Image sets as a run has them: splits that are what they always were, read once, and never changed ones."""

import collections
import hashlib
import shutil
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dae_ssl.config import ConfigError, Data
from dae_ssl.data import prepare, sets
from dae_ssl.files import StoreError
from tests.data.trees import pixels, silent, small_tree


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(1, 60), st.integers(0, 5))
def test_validation_split_matches_a_slow_oracle_for_any_labels(labels, wanted, seed):
    counts = collections.Counter(labels)
    taken = {label: wanted * count // len(labels) for label, count in counts.items()}
    by_remainder = sorted(counts, key=lambda label: (-(wanted * counts[label] % len(labels)), label))
    for label in by_remainder[: wanted - sum(taken.values())]:
        taken[label] += 1
    if any(taken[label] >= counts[label] for label in counts):
        with pytest.raises(ConfigError, match=r"data\.validation_images"):
            sets.split_validation(torch.tensor(labels), wanted, seed)
        return
    expected = set()
    for label in counts:
        rows = [row for row, own in enumerate(labels) if own == label]
        rows.sort(key=lambda row: hashlib.sha256(f"validation {seed} {row}".encode()).hexdigest())
        expected |= set(rows[: taken[label]])
    train, validation = sets.split_validation(torch.tensor(labels), wanted, seed)
    assert validation.tolist() == sorted(expected)
    assert train.tolist() == sorted(set(range(len(labels))) - expected)
    assert len(validation) == wanted


def test_validation_split_is_the_one_it_has_always_been():
    _, validation = sets.split_validation(torch.arange(100) % 3, validation_images=8, seed=0)
    assert validation.tolist() == [4, 16, 30, 43, 75, 78, 92, 98]
    _, other = sets.split_validation(torch.arange(100) % 3, validation_images=8, seed=1)
    assert other.tolist() != [4, 16, 30, 43, 75, 78, 92, 98]


def test_too_large_a_validation_split_is_refused_in_one_line():
    with pytest.raises(ConfigError) as refused:
        sets.split_validation(torch.arange(100) % 10, validation_images=5000, seed=0)
    assert str(refused.value).startswith("data.validation_images=5000: choose fewer")
    assert "\n" not in str(refused.value)


def test_evaluation_splits_share_no_image_and_lose_none(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    splits = sets.evaluation_splits(store, Data(evaluate="mine", validation_images=10), "cpu")
    whole = sets.load(store, "mine", "train", "cpu")
    assert list(splits) == ["train", "validation", "test"]
    assert sorted([*splits["train"].ids.tolist(), *splits["validation"].ids.tolist()]) == list(range(40))
    assert splits["validation"].labels.bincount().tolist() == [1] * 10
    for name in ("train", "validation"):
        assert torch.equal(splits[name].images, whole.images[splits[name].ids])
        assert torch.equal(splits[name].labels, whole.labels[splits[name].ids])
    assert torch.equal(splits["test"].images, sets.load(store, "mine", "test", "cpu").images)


def test_pretraining_subset_is_fixed_by_its_seed_and_nested_in_larger_ones(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)

    def drawn(images: int | None, seed: int = 0) -> list[int]:
        chosen = sets.pretraining_images(store, Data(pretrain="mine", pretrain_images=images, split_seed=seed), "cpu")
        whole = sets.load(store, "mine", "train", "cpu")
        assert torch.equal(chosen.images, whole.images[chosen.ids])
        return chosen.ids.tolist()

    assert drawn(None) == drawn(40) == list(range(40))
    assert len(drawn(15)) == 15
    assert drawn(15) == drawn(15) == drawn(15, seed=1)
    assert set(drawn(5)) < set(drawn(15))
    with pytest.raises(ConfigError, match=r"data\.pretrain_images=41: choose null \(all\) or at most 40"):
        drawn(41)


def test_evaluation_subset_keeps_the_test_images_and_holds_validation_out_of_what_is_used(tmp_path, store):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)

    def drawn(images: int | None, seed: int = 0) -> dict[str, list[int]]:
        wanted = Data(evaluate="mine", evaluate_images=images, validation_images=10, split_seed=seed)
        return {name: split.ids.tolist() for name, split in sets.evaluation_splits(store, wanted, "cpu").items()}

    assert drawn(None) == drawn(40)
    few = drawn(25)
    used = {*few["train"], *few["validation"]}
    assert (len(few["train"]), len(few["validation"]), len(used)) == (15, 10, 25)
    assert few["test"] == drawn(None)["test"]
    assert {*drawn(25, seed=1)["train"], *drawn(25, seed=1)["validation"]} == used, "the split varies, what is used not"
    assert used < {*drawn(30)["train"], *drawn(30)["validation"]}
    with pytest.raises(ConfigError, match=r"data\.evaluate_images=41: choose null \(all\) or at most 40"):
        drawn(41)


# ---------------------------------------------------------------------------------- what a run reads


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files of images and labels that come to be read, in order."""
    names: list[str] = []
    mapped = sets._mapped
    monkeypatch.setattr(sets, "_mapped", lambda path: (names.append(path.name), mapped(path))[1])
    return names


def test_a_run_reads_each_split_once_and_draws_from_it_what_it_would_without_a_memo(tmp_path, store, read):
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    memo = sets.Memo()
    for images, seed in ((None, 0), (25, 0), (25, 1), (None, 0)):
        wanted = Data(
            pretrain="mine", evaluate="mine", pretrain_images=images, evaluate_images=images, validation_images=10,
            split_seed=seed,
        )  # fmt: skip
        remembered, plain = (sets.evaluation_splits(store, wanted, "cpu", *given) for given in ((memo,), ()))
        remembered["pretraining"], plain["pretraining"] = (
            sets.pretraining_images(store, wanted, "cpu", *given) for given in ((memo,), ())
        )
        assert list(remembered) == list(plain)
        for name, split in plain.items():
            for part in ("images", "labels", "ids"):
                assert torch.equal(getattr(remembered[name], part), getattr(split, part))
        assert sets.evaluation_splits(store, wanted, "cpu", memo)["train"] is remembered["train"]
    read.clear()
    sets.load(store, "mine", "train", "cpu", memo)
    sets.evaluation_splits(store, wanted, "cpu", memo)
    assert read == []
    sets.load(store, "mine", "train", "cpu")
    assert read == ["train-images.npy", "train-labels.npy"]


def test_images_prepared_anew_under_their_name_are_read_anew(tmp_path, store):
    memo = sets.Memo()
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    before = sets.load(store, "mine", "train", "cpu", memo)
    shutil.rmtree(store.data("mine").path)
    prepare.prepare(store, "mine", small_tree(tmp_path / "other", seed=7), tell=silent)
    after = sets.load(store, "mine", "train", "cpu", memo)
    assert not torch.equal(before.images, after.images)
    assert torch.equal(after.images, sets.load(store, "mine", "train", "cpu").images)


def test_changed_file_is_refused_by_a_run_that_has_verified_the_set_but_not_read_it(tmp_path, store):
    memo = sets.Memo()
    prepare.prepare(store, "mine", small_tree(tmp_path / "tree"), tell=silent)
    sets.load(store, "mine", "train", "cpu", memo)
    path = store.data("mine").product("test-images.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    time.sleep(0.01)  # times of files are as coarse as the kernel's tick
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"test-images\.npy changed"):
        sets.load(store, "mine", "test", "cpu", memo)


def test_subset_keeps_the_given_order_and_the_rows_of_the_prepared_split():
    whole = sets.ImageSet(torch.from_numpy(pixels(5)), torch.arange(5) % 2, torch.arange(5), ("a", "b"))
    twice = whole.subset(torch.tensor([4, 2, 3])).subset(torch.tensor([2, 0]))
    assert twice.ids.tolist() == [3, 4]
    assert torch.equal(twice.images, whole.images[[3, 4]])
    assert len(twice.to("cpu")) == 2
