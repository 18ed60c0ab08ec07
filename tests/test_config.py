"""What a cell is, when two cells are the same computation, and what people are told about impossible ones."""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method, cell, differences, key, title
from dae_ssl.training.losses import RECONSTRUCTION
from dae_ssl.training.methods.siamese import DenoisingAutoencoder

# Every setting of a cell but the method's, with a value that is not the base's, and the stages whose result it decides.
EVERYTHING = frozenset({"pretrain", "features", "probe", "kmeans"})
EVALUATION = EVERYTHING - {"pretrain"}
OTHER_VALUE: dict[str, tuple[Any, frozenset[str]]] = {
    "data.pretrain": ("cifar10", EVERYTHING),
    "data.pretrain_images": (10_000, EVERYTHING),
    "data.evaluate": ("cifar100", EVALUATION),
    "data.evaluate_images": (10_000, EVALUATION),
    "data.validation_images": (1000, EVALUATION),
    "data.split_seed": (1, EVALUATION),
    "views.crop": (24, EVERYTHING),
    "views.flip": (0.5, EVERYTHING),
    "views.jitter": (0.5, EVERYTHING),
    "views.blur_kernel": (3, EVERYTHING),
    "views.solarize": (0.1, EVERYTHING),
    "views.solarize_threshold": (0.5, EVERYTHING),
    "views.frozen": (True, EVERYTHING),
    "networks.embedding_size": (256, EVERYTHING),
    "optimisation.epochs": (200, EVERYTHING),
    "optimisation.batch_size": (256, EVERYTHING),
    "optimisation.learning_rate": (1e-3, EVERYTHING),
    "optimisation.schedule": ("constant", EVERYTHING),
    "optimisation.checkpoints": ([10], EVERYTHING),
    "features.epoch": (100, EVALUATION),
    "features.dtype": ("float32", EVALUATION),
    "probe.epochs": (100, frozenset({"probe"})),
    "probe.batch_size": (256, frozenset({"probe"})),
    "probe.learning_rates": ([1e-3, 1e-2], frozenset({"probe"})),
    "probe.seeds": ([0, 1], frozenset({"probe"})),
    "probe.labels_per_class": (10, frozenset({"probe"})),
    "kmeans.clusters": (20, frozenset({"kmeans"})),
    "kmeans.restarts": (1, frozenset({"kmeans"})),
    "kmeans.seed": (1, frozenset({"kmeans"})),
    "seed": (1, EVERYTHING),
    "precision": ("bf16", EVERYTHING),
}
SIAMESE = {"embedding": "l2", "alpha": 1}
SIAMESE_OTHERS = {"embedding": "l1", "alpha": 2, "reconstruction": "other_for_a_test"}
# For every method: settings under which each of its own settings matters, and another value of each.
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dae": (SIAMESE, SIAMESE_OTHERS),
    "ae": (SIAMESE, SIAMESE_OTHERS),
    "simclr": ({}, {"contrast": "published_contrast", "temperature": 0.1}),
    "simsiam": ({}, {}),
    "layerwise_dae": ({}, {"reconstruction": "other_for_a_test"}),
    "single_view_dae": ({}, {"reconstruction": "other_for_a_test"}),
    "single_view_ae": ({}, {"reconstruction": "other_for_a_test"}),
    "random": ({}, {}),
    "pixels": ({}, {}),
}
BASE = {"method": {"name": "dae"} | SIAMESE, "views": {"solarize": 0.2}}


def nested(name: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for "a.b"."""
    first, _, rest = name.partition(".")
    return {first: nested(rest, value) if rest else value}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with some replaced."""
    both = {name: merged(base[name], more[name]) for name in base.keys() & more.keys() if isinstance(base[name], dict)}
    return base | more | both


def changed_stages(one: Cell, other: Cell) -> frozenset[str]:
    return frozenset(stage for stage in one.stages() if key(one, stage) != key(other, stage))


@pytest.fixture
def registered() -> Iterator[dict[str, type[Method]]]:
    """The registry of methods, left as it was."""
    before = dict(Method.registry)
    yield Method.registry
    Method.registry.clear()
    Method.registry.update(before)


# ---------------------------------------------------------------------------------- keys that must differ


def test_contract_names_every_setting_and_method() -> None:
    names = {name for name in config.flat(config.settings(cell(BASE))) if not name.startswith("method.")}
    assert names == set(OTHER_VALUE), "give a new setting another value, and say which stages it decides"
    assert set(Method.registry) == set(METHODS), "give a new method a row"
    for name, (_, others) in METHODS.items():
        assert {field.name for field in dataclasses.fields(Method.registry[name])} == set(others), name


@pytest.mark.parametrize("name", OTHER_VALUE)
def test_setting_changes_the_keys_of_exactly_the_stages_it_decides(name: str) -> None:
    value, stages = OTHER_VALUE[name]
    base, other = cell(BASE), cell(merged(BASE, nested(name, value)))
    assert config.flat(config.settings(other))[name] == value
    assert changed_stages(base, other) == stages
    assert config.cell_key(base) != config.cell_key(other)
    for stage in stages:
        assert list(differences(base, other, stage))


@pytest.mark.parametrize(("method", "name"), [(m, name) for m, row in METHODS.items() for name in row[1]])
def test_own_setting_of_a_method_changes_every_key(method: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECONSTRUCTION, "other_for_a_test", RECONSTRUCTION["l2"])
    base, others = METHODS[method]
    one, other = (cell(method={"name": method} | base | more) for more in ({}, {name: others[name]}))
    assert changed_stages(one, other) == EVERYTHING


def test_methods_with_their_defaults_have_different_keys() -> None:
    for stage in ("features", "probe", "kmeans"):
        assert len({key(cell(method=name), stage) for name in Method.registry}) == len(Method.registry)


def test_stages_of_a_cell_have_different_keys() -> None:
    assert len({key(cell(BASE), stage) for stage in config.STAGES}) == 4


def test_seed_of_pretraining_reaches_the_probe_through_its_parent_only() -> None:
    assert changed_stages(cell(method="pixels"), cell(method="pixels", seed=1)) == frozenset()
    assert changed_stages(cell(method="random"), cell(method="random", seed=1)) == EVERYTHING


# ---------------------------------------------------------------------------------- keys that must not differ

SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "integer or float": (
        {"method": {"name": "dae", "embedding": "l2", "alpha": 1}, "views": {"flip": 1}, "seed": 3.0},
        {"method": {"name": "dae", "embedding": "l2", "alpha": 1.0}, "views": {"flip": 1.0}, "seed": 3},
    ),
    "list or tuple": (
        {"method": "dae", "probe": {"seeds": [0, 1]}, "optimisation": {"checkpoints": [10, 300]}},
        {"method": "dae", "probe": {"seeds": (0, 1)}, "optimisation": {"checkpoints": (10, 300)}},
    ),
    "given or default": (
        {"method": {"name": "simclr", "temperature": 0.5}, "views": {"crop": 28}},
        {"method": "simclr"},
    ),
    "order of checkpoints, and those after the end": (
        {"method": "dae", "optimisation": {"epochs": 100, "checkpoints": [50, 10, 200]}},
        {"method": "dae", "optimisation": {"epochs": 100, "checkpoints": [10, 50, 100]}},
    ),
    "last epoch by name": ({"method": "dae", "features": {"epoch": 300}}, {"method": "dae"}),
    "embedding loss without weight": (
        {"method": {"name": "ae", "embedding": "ncs", "alpha": 0}},
        {"method": {"name": "ae", "embedding": "l1", "alpha": 0}},
    ),
    "no embedding loss": ({"method": {"name": "ae", "embedding": "ncs", "alpha": 0}}, {"method": "ae"}),
    "solarize threshold without solarizing": (
        {"method": "dae", "views": {"solarize_threshold": 0.3}},
        {"method": "dae"},
    ),
    "views of a method that has none": (
        {"method": "single_view_ae", "views": {"crop": 20, "solarize": 0.2}},
        {"method": "single_view_ae"},
    ),
    "temperature of a loss without one": (
        {"method": {"name": "simclr", "contrast": "published_contrast", "temperature": 0.1}},
        {"method": {"name": "simclr", "contrast": "published_contrast"}},
    ),
    "training of a random encoder": (
        {
            "method": "random",
            "optimisation": {"epochs": 5, "schedule": "constant"},
            "views": {"crop": 20},
            "precision": "bf16",
            "data": {"pretrain": "cifar10", "pretrain_images": 100},
            "features": {"epoch": 7},
        },
        {"method": "random"},
    ),
    "pretraining of raw pixels": (
        {"method": "pixels", "optimisation": {"epochs": 5}, "networks": {"embedding_size": 8}, "seed": 9},
        {"method": "pixels"},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_equal_meaning_has_equal_keys(name: str) -> None:
    one, other = (cell(given) for given in SAME[name])
    assert changed_stages(one, other) == frozenset()
    assert config.cell_key(one) == config.cell_key(other)
    for stage in one.stages():
        assert list(differences(one, other, stage)) == []


def test_settings_of_the_method_may_stand_beside_its_name() -> None:
    below = cell(method={"name": "dae", "embedding": "l2", "alpha": 1}, seed=1)
    assert cell(method="dae", embedding="l2", alpha=1, seed=1) == below
    assert cell(method={"name": "dae", "embedding": "l2"}, alpha=1, seed=1) == below
    assert cell({"method": "dae", "alpha": 1}, embedding="l2", seed=1) == below


def test_cell_built_by_hand_has_the_key_of_one_built_from_plain_values() -> None:
    by_hand = Cell(method=DenoisingAutoencoder(embedding="l2", alpha=1), views=config.Views(flip=1))
    plain = cell(method={"name": "dae", "embedding": "l2", "alpha": 1}, views={"flip": 1})
    assert by_hand == plain
    assert changed_stages(by_hand, plain) == frozenset()


def test_embedding_size_is_not_in_the_key_of_a_random_encoder() -> None:
    assert changed_stages(cell(method="random"), cell(method="random", networks={"embedding_size": 8})) == frozenset()


def test_keys_that_were_handed_out_can_be_changed_without_changing_the_cells() -> None:
    built = cell(BASE)
    before = config.keys(built)
    config.keys(built)["probe"] = "another"
    assert config.keys(cell(BASE)) == before


def test_keys_do_not_depend_on_the_process_that_computes_them(tmp_path: Path) -> None:
    code = (
        "from dae_ssl import config\n"
        "class Mine(config.Method, name='mine'): pass\n"
        "print([config.key(config.cell(method='mine', seed=1), stage) for stage in config.STAGES])"
    )
    one = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    other = {"PYTHONHASHSEED": "7", "WORLD_SIZE": "4", "RANK": "3", "CUDA_VISIBLE_DEVICES": "", "HOME": str(tmp_path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | environment,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        for folder, environment in ((tmp_path, one), (tmp_path.parent, one | other))
    ]
    assert told[0] == told[1]
    assert len(re.findall("[0-9a-f]{16}", told[0])) == 4


def test_where_it_runs_is_not_a_setting() -> None:
    place = re.compile(r"path|folder|root|device|rank|worker|cluster\b|host|gpu|store|partition")
    assert [name for name in config.flat(config.settings(cell(BASE))) if place.search(name)] == []


GOLDEN: dict[str, list[str]] = {
    "dae": ["3d7f5f3a01839303", "f006e49d375603d4", "58cea7cb9644e05e", "57c88fbab46077cc"],
    "simclr": ["ffbe2823cc25f120", "4b374f40bf7aee90", "4ee4fea7a7d60f9a", "5720c8659910c5b0"],
}


def test_keys_stay_what_they_were() -> None:
    """Finished nodes are found by these names: when one must change, raise SCHEMA and pin the new ones."""
    dae = cell(method={"name": "dae", "embedding": "ncs", "alpha": 10})
    assert [key(dae, stage) for stage in dae.stages()] == GOLDEN["dae"]
    assert [key(cell(method="simclr", seed=2), stage) for stage in dae.stages()] == GOLDEN["simclr"]


# ---------------------------------------------------------------------------------- settings <-> plain values


@pytest.mark.parametrize("name", METHODS)
def test_cell_survives_being_written_as_plain_values(name: str) -> None:
    built = cell(BASE, method={"name": name} | METHODS[name][0], probe={"learning_rates": [0.1, 0.2]})
    assert cell(config.settings(built)) == built
    assert next(iter(config.settings(built)["method"])) == "name"


def test_settings_of_one_cell_do_not_reach_another() -> None:
    given: dict[str, Any] = {"method": {"name": "dae"}, "views": {"crop": 20}}
    before = repr(given)
    assert cell(given, views={"crop": 24}).views.crop == 24
    assert repr(given) == before
    assert cell(given).views.crop == 20


def test_difference_names_the_setting_and_both_values() -> None:
    one = cell(BASE)
    other = replace(one, views=replace(one.views, crop=24))
    assert list(differences(one, other, "pretrain")) == [("views.crop", 28, 24)]
    assert list(differences(one, other, "probe")) == [("parent.parent.views.crop", 28, 24)]
    assert list(differences(one, replace(one, probe=config.Probe(epochs=3)), "kmeans")) == []


def test_difference_of_methods_names_what_only_one_has() -> None:
    told = {name: values for name, *values in differences(cell(method="dae"), cell(method="simclr"), "pretrain")}
    assert told["method.name"] == ["dae", "simclr"]
    assert told["method.alpha"] == [0.0, "absent"]
    assert told["method.temperature"] == ["absent", 0.5]


def test_title_tells_method_its_settings_and_seed_then_what_is_not_the_studys() -> None:
    assert title(cell(method="dae")) == "dae seed=0"
    given = {"method": {"name": "dae", "embedding": "ncs", "alpha": 10}, "views": {"crop": 24}, "seed": 3}
    assert title(cell(given)) == "dae embedding=ncs alpha=10.0 seed=3 views.crop=24"


def test_titles_of_cells_that_differ_in_one_setting_differ() -> None:
    titles = [title(cell(merged(BASE, nested(name, value)))) for name, (value, _) in OTHER_VALUE.items()]
    assert len({title(cell(BASE)), *titles}) == len(titles) + 1


def test_last_epoch_is_always_kept() -> None:
    assert config.Optimisation(epochs=60).kept_epochs() == (10, 25, 50, 60)
    assert config.Optimisation(epochs=3, checkpoints=()).kept_epochs() == (3,)


def test_floors_lack_what_they_do_not_need() -> None:
    assert cell(method="pixels").stages() == ("features", "probe", "kmeans")
    with pytest.raises(ConfigError, match="features, probe, kmeans"):
        key(cell(method="pixels"), "pretrain")


def test_method_of_ones_own_needs_only_a_subclass(registered: dict[str, type[Method]]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(Method, name="mine_for_a_test"):
        strength: float = 2.0
        parts: tuple[int, ...] = ()

    built = cell(method={"name": "mine_for_a_test", "strength": 3, "parts": [1, 2]})
    assert built.method == Mine(strength=3.0, parts=(1, 2))
    assert cell(config.settings(built)) == built
    assert changed_stages(built, cell(method="mine_for_a_test")) == EVERYTHING
    assert "mine_for_a_test" in registered
    with pytest.raises(ConfigError, match="mine_for_a_test"):

        class Other(Method, name="mine_for_a_test"):
            pass


# ---------------------------------------------------------------------------------- errors

# What is given beside the method, and what the message must say: the setting with its value, and choices.
IMPOSSIBLE: list[tuple[dict[str, Any], str, str]] = [
    ({"method": "dea"}, "method='dea'", "choose ae, dae"),
    (
        {"method": {"name": "dae", "embeding": "l1"}},
        "unknown setting method.embeding",
        "did you mean method.embedding?",
    ),
    ({"method": {"name": "dae", "embedding": "l3"}}, "method.embedding='l3'", "choose none, l1, "),
    ({"method": {"name": "dae", "alpha": -1}}, "method.alpha=-1.0", "0 or more"),
    ({"method": {"name": "dae", "alpha": 1}}, "method.alpha=1.0", "set method.embedding too: l1, "),
    ({"method": {"name": "dae", "alpha": "much"}}, "method.alpha='much'", "a number"),
    ({"method": {"name": "dae", "reconstruction": "l7"}}, "method.reconstruction='l7'", "choose l2"),
    ({"method": {"name": "single_view_ae", "reconstruction": "l7"}}, "method.reconstruction='l7'", "choose l2"),
    ({"method": {"name": "simclr", "contrast": "triplet"}}, "method.contrast='triplet'", "nt_xent, published_contrast"),
    ({"method": {"name": "simclr", "temperature": 0}}, "method.temperature=0.0", "above 0"),
    ({"method": {"name": "pixels", "size": 3}}, "unknown setting method.size", "choose from none"),
    ({"method": 3}, "method=3", "method.NAME=VALUE"),
    ({"view": {}}, "unknown setting view", "did you mean views?"),
    ({"alfa": 1}, "unknown setting alfa", "did you mean alpha?"),
    ({"method": "simclr", "alpha": 1}, "unknown setting alpha", "contrast, temperature"),
    ({"method": {"name": "dae", "alpha": 0}, "alpha": 1}, "alpha=1", "method has alpha=0"),
    ({"views": 3}, "views=3", "views.NAME=VALUE"),
    ({"views": {"crop": 0}}, "views.crop=0", "at least 1"),
    ({"views": {"crop": 27.5}}, "views.crop=27.5", "a whole number"),
    ({"views": {"flip": 1.1}}, "views.flip=1.1", "between 0 and 1"),
    ({"views": {"solarize": -0.1}}, "views.solarize=-0.1", "between 0 and 1"),
    ({"views": {"solarize_threshold": 2}}, "views.solarize_threshold=2.0", "between 0 and 1"),
    ({"views": {"jitter": 3}}, "views.jitter=3.0", "between 0 and 2.5"),
    ({"views": {"blur_kernel": 4}}, "views.blur_kernel=4", "odd"),
    ({"views": {"frozen": 1}}, "views.frozen=1", "true or false"),
    ({"data": {"pretrain": "../elsewhere"}}, "data.pretrain='../elsewhere'", "a data set's name"),
    ({"data": {"evaluate": ""}}, "data.evaluate=''", "a data set's name"),
    ({"data": {"evaluate": 10}}, "data.evaluate=10", "a name"),
    ({"data": {"pretrain_images": 0}}, "data.pretrain_images=0", "null (all) or at least 1"),
    ({"data": {"validation_images": 0}}, "data.validation_images=0", "at least 1"),
    ({"networks": {"embedding_size": 0}}, "networks.embedding_size=0", "at least 1"),
    ({"optimisation": {"epochs": 0}}, "optimisation.epochs=0", "at least 1"),
    ({"optimisation": {"batch_size": 1}}, "optimisation.batch_size=1", "at least 2"),
    ({"optimisation": {"learning_rate": float("nan")}}, "optimisation.learning_rate=nan", "a number"),
    ({"optimisation": {"learning_rate": 0}}, "optimisation.learning_rate=0.0", "above 0"),
    ({"optimisation": {"schedule": "linear"}}, "optimisation.schedule='linear'", "cosine or constant"),
    ({"optimisation": {"checkpoints": [0, 5]}}, "optimisation.checkpoints=(0, 5)", "at least 1"),
    ({"optimisation": {"checkpoints": 5}}, "optimisation.checkpoints=5", "a list"),
    ({"features": {"dtype": "float64"}}, "features.dtype='float64'", "float16 or float32"),
    ({"features": {"epoch": 12}}, "features.epoch=12", "10, 25, 50, 100, 150, 200, 250, 300"),
    ({"probe": {"epochs": 0}}, "probe.epochs=0", "at least 1"),
    ({"probe": {"batch_size": 0}}, "probe.batch_size=0", "at least 1"),
    ({"probe": {"learning_rates": []}}, "probe.learning_rates=()", "at least one"),
    ({"probe": {"learning_rates": [0.1, -1]}}, "probe.learning_rates=(0.1, -1.0)", "above 0"),
    ({"probe": {"seeds": [1, 1]}}, "probe.seeds=(1, 1)", "different seeds"),
    ({"probe": {"seeds": []}}, "probe.seeds=()", "one or more"),
    ({"probe": {"labels_per_class": 0}}, "probe.labels_per_class=0", "null or at least 1"),
    ({"kmeans": {"clusters": 1}}, "kmeans.clusters=1", "at least 2"),
    ({"kmeans": {"restarts": 0}}, "kmeans.restarts=0", "at least 1"),
    ({"seed": -1}, "seed=-1", "between 0 and"),
    ({"seed": True}, "seed=True", "a whole number"),
    ({"precision": "fp8"}, "precision='fp8'", "fp32, tf32 or bf16"),
]


@pytest.mark.parametrize(("given", "value", "choices"), IMPOSSIBLE, ids=lambda part: str(part)[:40])
def test_error_is_one_line_with_the_value_and_the_choices(given: dict[str, Any], value: str, choices: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cell({"method": "dae"} | given)
    message = str(caught.value)
    assert message.startswith(value)
    assert choices in message
    assert "\n" not in message


def test_method_that_is_not_given_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^method is not given: choose ae, dae, layerwise_dae, pixels, random"):
        cell()


def test_stage_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError, match="stage='finetune': choose pretrain, features, probe, kmeans"):
        key(cell(BASE), "finetune")
