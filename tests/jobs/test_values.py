"""NAME=VALUE without Hydra: what Hydra's own parser makes of the same words, and one line for everything else."""

import math
import time
from collections.abc import Mapping
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method
from jobs import run, scales, values
from jobs import settings as job_settings
from tests.commanded import cell_of
from tests.commanded import given as given_to

HYDRA = OverridesParser.create()


def by_hydra(word: str) -> tuple[str, Any] | None:
    """Return the name and the plain, finite value that Hydra reads; None where it reads something else, or refuses."""
    try:
        override = HYDRA.parse_override(word)
    except (HydraException, ValueError):
        return None
    plain = override.value_type is ValueType.ELEMENT and is_plain(value := override.value())
    return (override.key_or_group, value) if plain else None


def is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, Mapping)


def by_us(word: str) -> tuple[str, Any] | None:
    try:
        (found,) = values.parsed([word])
    except ConfigError:
        return None
    return found


WORDS = [
    "seed=1", "a.b.c=x", "+scale=demo", "++seed=7", "x=", "x= 1", "x=1 ", "x=null", "x=NULL", "x=true", "x=FALSE",
    "x=yes", "x=0", "x=-3", "x=+3", "x=007", "x=1_000", "x=1__0", "x=1.", "x=.5", "x=1e-3", "x=1E+3", "x=1.5e2", "x=e5",
    "x=1.5.2", "x=inf", "x=-Inf", "x=nan", "x=1e999", "x=two words", "x=/scratch/a-b_c.d@e", "x=C:\\d", "x=http://h:1/p",
    "x='1e3'", "x=\"two, words\"", "x=''", "x='it\\'s'", "x='end\\\\'", "x='größe'", "x=größe", "x='a'b", "x='a' ",
    "x=[]", "x=[ ]", "x=[1,2]", "x=[ 1 , 'a b' ,null, [1e-3, b c ] ]", "x=[1,]", "x=[,1]", "x=[1", "x=[1]]", "x=[1] ",
    "x=1,2", "x=a\\,b", "x=a=b", "x=a(b)", "x=int(3)", "x=choice(1,2)", "x={a: 1}", "x=[{a: 1}]", "~x=1", "~x", "x",
    "=1", "", "a/b@c", "a..b=1", "1a=1", "a.1=x", "x=\\", "x=a\\ ", "x=$", "x=#", "x=a;b", "x=*?|%",
]  # fmt: skip

NOT_FOR_CELLS = ("~x=1", "a.1=x", "=1", "x=int(3)")
"""A deletion, an item of a list, a whole configuration, and a function."""


@pytest.mark.parametrize("word", WORDS)
def test_word_means_what_hydra_takes_it_for_or_is_refused(word: str) -> None:
    if word in NOT_FOR_CELLS:
        assert (by_hydra(word) is None, by_us(word)) == (False, None)
    else:
        assert repr(by_us(word)) == repr(by_hydra(word)), "1, 1.0 and True differ"


ATOMS = ["null", "true", "inf", "1e3", "1_0", "0", "12", "3.", ".5", "e5", "a", "b-c", "é", "\\", "'", '"', "\t",
         *"-+/ ,[]:$%=~@?*|.{}("]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(ATOMS), max_size=8).map("".join))
@example("a: ")
@example("'a\\\\\\'b'")
def test_any_text_is_read_as_by_hydra_or_refused_where_it_is_no_plain_value(text: str) -> None:
    if "${" not in text:  # which Hydra reads as a text that stands for another
        assert repr(by_us(f"a.b={text}")) == repr(by_hydra(f"a.b={text}"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed", "'seed' cannot be parsed: write NAME=VALUE"),
        ("seed=1,2", "seed=1,2 has more than one value: give one, or a list"),
        ("method.alpha=inf", "method.alpha=inf: inf is not a finite number"),
        ("store=${oc.env:HOME}", "'store=${oc.env:HOME}' cannot be parsed: write NAME=VALUE, where VALUE is"),
        ("views={crop: 24}", "'views={crop: 24}' cannot be parsed"),
    ],
)
def test_word_that_is_not_understood_is_told_with_what_can_be_written(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        values.parsed([word])
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=" + "1" * 5000, " is a number of 5000 characters: give one of at most 40"),
        ("minutes=" + "9" * 400, " is a number of 400 characters"),
        ("x=[1,-" + "1" * 40 + "]", " is a number of 41 characters"),
        ("x=0." + "1" * 5000, " is a number of 5002 characters"),
        ("x=1e" + "0" * 5000, " is a number of 5002 characters"),
        ("a=" + "[" * 100_000, "its lists are nested more than 20 deep"),
        ("a=" + "[" * 900 + "]" * 900, "its lists are nested more than 20 deep"),
        ("a=" + "[" * 21 + "]" * 21, "its lists are nested more than 20 deep"),
        ("seed" + ".a" * 100_000 + "=1", "its name has more than 20 parts"),
        ("a=" + "{" * 100_000, "cannot be parsed"),
        ("{" * 100_000, "cannot be parsed"),
        ("a=" + "1," * 50_000, "has more than one value"),
    ],
    ids=lambda word: word[:12],
)
def test_endless_word_is_refused_in_one_line_that_repeats_only_its_beginning(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        values.parsed([word])
    assert said in str(refused.value)
    assert str(refused.value).lstrip("'").startswith(word[:100])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "word", ["a='1\n2',3", "a\n", "a='\x1b[2J',3", "a=['\n'," + "1" * 41 + "]", "a='\udcff',2", "\udcff"]
)
def test_refusal_is_one_line_that_can_be_printed_whatever_the_argument_holds(word: str) -> None:
    with pytest.raises(ConfigError) as refused:
        values.parsed([word])
    assert str(refused.value).isprintable()


def test_numbers_and_lists_up_to_those_bounds_are_read_and_long_words_too() -> None:
    whole, point, word = "1" * 40, "0." + "1" * 38, "a" * 5000
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    given = [f"a={whole}", f"b={point}", f"c={word}", f"d='{'1' * 5000}'", "e=" + "[" * 20 + "1" + "]" * 20]
    assert values.parsed(given) == [
        ("a", int(whole)), ("b", float(point)), ("c", word), ("d", "1" * 5000), ("e", deep)
    ]  # fmt: skip
    assert values.parsed(["f" + ".f" * 19 + "=1"])


def test_long_list_and_long_backslashes_are_read_in_no_time() -> None:
    began = time.process_time()
    assert values.parsed(["x=[" + "1 , " * 50_000 + "1]"]) == [("x", [1] * 50_001)]
    assert values.parsed([r"x='" + "\\" * 60_000 + "x'"]) == [("x", "\\" * 60_000 + "x")]
    assert time.process_time() - began < 5


def test_names_with_points_are_settings_below_others() -> None:
    assert values.nested([("a.b", 1), ("a.c.d", [2]), ("a.b", 3)]) == {"a": {"b": 3, "c": {"d": [2]}}}
    with pytest.raises(ConfigError, match=r"a\.b=2: give a either a value or settings"):
        values.nested([("a", 1), ("a.b", 2)])


# ---------------------------------------------------------------------------------- one cell, with Hydra and without


def by_hydra_composed(arguments: list[str]) -> tuple[Cell, str]:
    """Return the cell and the store that `dae-ssl run` would take."""
    job_settings.register()
    words = run.overrides(given_to("run", arguments))
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(run.CONFIG)):
        plain: Any = OmegaConf.to_container(hydra.compose("run", words), resolve=True)
    return job_settings.cell(plain), plain["store"]


CHANGES: list[list[str]] = [
    [],
    ["seed=3", "precision=bf16", "--store=else where's"],
    ["--scale=demo"],
    ["optimisation.epochs=2", "--scale", "small", "optimisation.checkpoints=[1]"],
    ["--variant=published_code", "--scale=miniature", "views.crop=20", "++seed=1"],
    ["views.blur_kernel=3", "views.frozen=true", "data.pretrain_images=50", "data.evaluate='1e3'", "views.flip=1"],
    ["probe.seeds=[1, 2]", "probe.learning_rates=[1e-3,0.01]", "probe.labels_per_class=10", "kmeans.restarts=1.0"],
    ["optimisation.checkpoints=[]", "data.pretrain=null-set", "seed=1", "seed=2", "features.epoch=null"],
]


@pytest.mark.parametrize("arguments", CHANGES, ids=" ".join)
@pytest.mark.parametrize("method", sorted(Method.registry))
def test_cell_is_the_one_that_hydra_composes_of_the_same_words(method: str, arguments: list[str]) -> None:
    own = [f"method.{name}={value}" for name, value in config.settings(config.method(method, {})).items()][1:]
    whole = [*arguments, *own, f"method={method}"]
    cell, store = by_hydra_composed(whole)
    assert cell_of(whole) == cell
    assert str(given_to("explain", whole).store) == store


def test_every_scale_and_variant_is_known_to_hydra_and_without_it() -> None:
    cells, names = set(), [name for options in scales.GROUPS.values() for name in options]
    for group, options in scales.GROUPS.items():
        for name in options:
            arguments = ["method=dae", f"--{group}={name}"]
            cells.add(config.cell_key(cell_of(arguments)))
            assert cell_of(arguments) == by_hydra_composed(arguments)[0]
    assert len(cells) == len(names)


def test_flags_of_where_a_cell_runs_are_hydras_settings_of_it() -> None:
    arguments = ["method=ae", "--no-floors", "--device=cpu", "--no-mlflow", "--scale=demo"]
    words = run.overrides(given_to("run", arguments))
    assert words == ["method=ae", "+scale=demo", "device=cpu", "floors=false", "mlflow_experiment=null"]
    named = run.overrides(given_to("run", ["method=ae", "--mlflow-experiment=my runs", "-m", "--profile=a b.yaml"]))
    assert named == ["method=ae", "mlflow_experiment='my runs'", "hydra/launcher=slurm",
                     "hydra.launcher.profile='a b.yaml'"]  # fmt: skip
    with pytest.raises(ConfigError, match="--profile='gpu4': choose it with --multirun"):
        run.overrides(given_to("run", ["method=ae", "--profile=gpu4"]))


def test_store_is_that_of_the_environment_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAE_SSL_STORE", "there")
    assert str(given_to("explain", ["method=ae"]).store) == by_hydra_composed(["method=ae"])[1] == "there"
    assert by_hydra_composed(["method=ae", "--store=here"])[1] == "here"
    assert by_hydra_composed(["method=ae", "--store=5"])[1] == "5", "a folder, whatever else it could be"
    assert by_hydra_composed(["method=ae", "--store=there"])[1] == "there"
