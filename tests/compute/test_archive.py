"""Results as a file of numbers: they travel whole, are checked, count as done, and give way where more is needed."""

import base64
import errno
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, files
from dae_ssl.compute import cells, done
from dae_ssl.compute.archive import Archive, ArchiveError, File, _plain
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import (
    CORRECT,
    FEATURES,
    LEFT_BEHIND,
    LOG,
    RECORD,
    Store,
    encoder_name,
    pictures_name,
    products_digest,
)
from dae_ssl.training.weights import WeightsError, read_encoder
from tests.commanded import ask, run
from tests.forged import a_cell, commit, forge
from tests.patience import PATIENCE


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Store, Cell]:
    """A store with a cell whose parents hold weights and features, and whose records name what they were made from."""
    store, cell = Store(tmp_path / "measured"), a_cell()
    forge(store, cell, right=0.8, seed=1)
    for stage in cell.stages():
        node, parent = store.node(stage, config.key(cell, stage)), cell.parent(stage)
        if parent is None or stage == "features":
            name = {"pretrain": encoder_name(4), "features": FEATURES}[stage]
            node.product(name).write_bytes(bytes(100_000))
        made_from = {} if parent is None else {"parent": products_digest(above_record(store, cell, parent))}
        commit(store, cell, stage, figures=above_record(store, cell, stage)["figures"], **made_from)
    return store, cell


def above_record(store: Store, cell: Cell, stage: str) -> dict[str, Any]:
    record = store.node(stage, config.key(cell, stage)).record()
    assert record is not None
    return record


def archived(store: Store, cell: Cell, path: Path, **more: Any) -> Path:
    archive = Archive.read(path)
    archive.add([cell], store, **more)
    archive.write(path)
    return path


def packed(*contents: bytes) -> str:
    return base64.b64encode(b"".join(lzma.compress(content) for content in contents)).decode()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def missing(cell: Cell, store: Store) -> set[str]:
    made = plan.make([cell], store, Profile.of("test", {"launcher": "local"}), queued={}, array_size=100)
    return {node.stage for node in made.missing()}


def test_figures_curves_and_right_images_arrive_as_they_were(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    path, other = archived(store, cell, tmp_path / "results.jsonl"), Store(tmp_path / "other")
    assert Archive.read(path).load(other) == 4
    assert cells.scores(cell, other) == cells.scores(cell, store)
    for stage in cell.stages():
        one, brought = (where.node(stage, config.key(cell, stage)) for where in (store, other))
        assert brought.log.exists() == one.log.exists()
        assert not one.log.exists() or brought.log.read_bytes() == one.log.read_bytes()
        was, found = one.verify(), brought.verify()
        assert {name: found[name] for name in ("versions", "commit", "device", "seconds", "settings")} == {
            name: was[name] for name in ("versions", "commit", "device", "seconds", "settings")
        }
        assert products_digest(found) == products_digest(was)
    with np.load(other.node("probe", config.key(cell, "probe")).product(CORRECT)) as correct:
        assert correct["probe"].shape == (2, 200)
    assert cells.described(other.cell(config.cell_key(cell))) == cell


def test_no_weights_and_no_features_travel(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    path, other = archived(store, cell, tmp_path / "results.jsonl"), Store(tmp_path / "other")
    Archive.read(path).load(other)
    pretrain = other.node("pretrain", config.key(cell, "pretrain"))
    assert {file.name for file in pretrain.path.iterdir()} == {RECORD, LOG}
    left = above_record(other, cell, "pretrain")[LEFT_BEHIND]
    assert left[encoder_name(4)]["bytes"] == 100_000
    assert {pictures_name(epoch) for epoch in (1, 2, 4)} <= left.keys()
    assert path.stat().st_size < 40_000


def test_pictures_travel_where_they_are_asked_for(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    other = Store(tmp_path / "other")
    Archive.read(archived(store, cell, tmp_path / "results.jsonl", pictured=[cell])).load(other)
    products = above_record(other, cell, "pretrain")["products"]
    assert set(products) == {pictures_name(4)}


def test_same_results_give_the_same_bytes_and_further_ones_are_added(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    path = archived(store, cell, tmp_path / "results.jsonl")
    before = path.read_bytes()
    assert archived(store, cell, path).read_bytes() == before
    further = a_cell(seed=5)
    forge(store, further, right=0.7, seed=2)
    archived(Store(tmp_path / "empty"), cell, path)
    assert path.read_bytes() == before, "what the store lacks stays in the file"
    archived(store, further, path)
    assert set(Archive.read(path).cells) == {config.cell_key(cell), config.cell_key(further)}


def test_loaded_cell_is_not_computed_again_and_loading_twice_changes_nothing(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    other = Store(tmp_path / "other")
    archive = Archive.read(archived(store, cell, tmp_path / "results.jsonl"))
    assert missing(cell, other) == set(config.STAGES)
    archive.load(other)
    assert missing(cell, other) == set()
    assert set(cells.current_records(cell, other)) == set(cell.stages())
    assert archive.load(other) == 0


def test_what_is_to_be_read_from_what_was_left_behind_is_computed_again_and_no_more(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    other = Store(tmp_path / "other")
    Archive.read(archived(store, cell, tmp_path / "results.jsonl")).load(other)
    further = a_cell(kmeans={"restarts": 3})
    assert missing(further, other) == {"pretrain", "features", "kmeans"}
    assert set(cells.current_records(further, other)) == {"probe"}
    assert missing(cell, other) == set()
    local = Profile.of("test", {"launcher": "local"})
    together = list(plan.make([cell, further], other, local, queued={}, array_size=100).missing())
    assert {node.stage for node in together} == {"pretrain", "features", "kmeans"}
    assert {config.cell_key(node.cell) for node in together} == {config.cell_key(further)}, "whose node reads them"
    probe = above_record(other, cell, "probe")
    assert not done.outdated(probe, above_record(other, cell, "features"))


def test_left_behind_parent_of_a_reader_made_from_other_products_is_computed_again(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    other = Store(tmp_path / "other")
    Archive.read(archived(store, cell, tmp_path / "results.jsonl")).load(other)
    node = other.node("probe", config.key(cell, "probe"))
    files.write_json(node.product(RECORD), above_record(other, cell, "probe") | {"parent": "of another"})
    assert missing(cell, other) == {"pretrain", "features", "probe"}
    assert set(cells.current_records(cell, other)) == {"kmeans"}


def test_file_never_holds_children_beside_a_parent_that_they_were_not_made_from(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    path = archived(store, cell, tmp_path / "results.jsonl")
    features = store.node("features", config.key(cell, "features"))
    features.product(FEATURES).write_bytes(b"of another device")
    commit(store, cell, "features", parent=products_digest(above_record(store, cell, "pretrain")), figures={})
    archived(store, cell, path)
    other = Store(tmp_path / "other")
    Archive.read(path).load(other)
    assert above_record(other, cell, "features")["left_behind"] != {}
    assert missing(cell, other) == missing(cell, store) | {"pretrain", "features"} == set(config.STAGES)
    made = products_digest(above_record(store, cell, "features"))
    for stage in ("probe", "kmeans"):
        commit(store, cell, stage, parent=made, figures=above_record(store, cell, stage)["figures"])
    archived(store, cell, path)
    Archive.read(path).load(Store(tmp_path / "third"))
    assert missing(cell, Store(tmp_path / "third")) == set()


def test_loading_leaves_a_training_that_was_begun_here_alone(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    other = Store(tmp_path / "other")
    begun = other.node("pretrain", config.key(cell, "pretrain"))
    begun.states.mkdir(parents=True)
    assert Archive.read(archived(store, cell, tmp_path / "results.jsonl")).load(other) == 3
    assert begun.states.exists()
    assert begun.record() is None


ADDS = """
import sys, time
from pathlib import Path
from tests.forged import a_cell
import dae_ssl.training.methods
from dae_ssl.compute.archive import File
from dae_ssl.store import Store
from tests.commanded import ask, run
store, path, seeds = Store(Path(sys.argv[1])), Path(sys.argv[2]), [int(seed) for seed in sys.argv[3:]]
file = File(path)
print("ready", flush=True)
sys.stdin.readline()
for seed in seeds:
    with file.adding([a_cell(seed=seed)], store):
        time.sleep(0.05)
"""


def test_commands_that_add_to_one_file_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "store"), tmp_path / "r.jsonl"
    for seed in range(4):
        forge(store, a_cell(seed=seed), right=0.8, seed=seed)
    at_work = [
        subprocess.Popen([sys.executable, "-c", ADDS, str(store.root), str(path), *seeds], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])})
        for seeds in (("0", "1"), ("2", "3"))
    ]  # fmt: skip
    for process in at_work:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in at_work:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    for process in at_work:
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    every = [a_cell(seed=seed) for seed in range(4)]
    assert set(Archive.read(path).nodes) == {id for cell in every for id in config.keys(cell).items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl", "store"], "no lock is left"


def test_file_is_read_again_only_where_another_command_has_written_it(
    measured: tuple[Store, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store, cell), further, path = measured, a_cell(seed=5), tmp_path / "r.jsonl"
    forge(store, further, right=0.7, seed=2)
    one, other, read = File(path), File(path), list[Path]()
    reading = Archive.read
    monkeypatch.setattr(Archive, "read", lambda path: read.append(path) or reading(path))
    for _ in range(3):
        with one.adding([cell], store) as (archive, _new):
            assert len(archive.cells) == 1
    assert read == []
    with other.adding([further], store) as (archive, _new):
        assert len(archive.cells) == 2
    with one.adding([], store) as (archive, _new):
        assert len(archive.cells) == 2
    assert read == [path, path]


def test_what_could_not_be_written_is_added_the_next_time(
    measured: tuple[Store, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store, cell), file = measured, File(tmp_path / "r.jsonl")

    def full(*_: object) -> None:
        raise StoreError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "write", full)
        with pytest.raises(StoreError, match="no space left"), file.adding([cell], store):
            pytest.fail("nothing was written")
    with file.adding([cell], store) as (_archive, new):
        assert new == 4
    assert len(Archive.read(file.path).nodes) == 4


def test_full_disk_is_told_of_the_file(
    measured: tuple[Store, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cell = measured

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    told = r"cannot write .*r\.jsonl: the disk is full: free space, or name another store or file;"
    with pytest.raises(StoreError, match=told), File(tmp_path / "r.jsonl").adding([cell], store):
        pytest.fail("nothing was written")


def test_pictures_can_be_added_later(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    path = archived(store, cell, tmp_path / "results.jsonl")
    archived(store, cell, path, pictured=[cell])
    with_pictures = path.read_bytes()
    Archive.read(path).load(Store(tmp_path / "other"))
    assert pictures_name(4) in above_record(Store(tmp_path / "other"), cell, "pretrain")["products"]
    archived(store, cell, path)
    assert path.read_bytes() == with_pictures, "what is there is not taken away"


def test_node_that_the_store_has_stays_as_it_is(measured: tuple[Store, Cell], tmp_path: Path) -> None:
    store, cell = measured
    path = archived(store, cell, tmp_path / "results.jsonl")
    before = above_record(store, cell, "pretrain")
    assert Archive.read(path).load(store) == 0
    assert above_record(store, cell, "pretrain") == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda entry: entry["record"]["settings"].update(schema=7), "is not the key of its settings"),
        (lambda entry: entry.update(key="0" * 16), "is not the key of its settings"),
        (lambda entry: entry["files"].update({"../probe.json": ""}), "is not a product's name"),
        (lambda entry: entry["files"].update({"record.json": ""}), "is not a product's name"),
        (lambda entry: entry["files"].update({"probe.json": "bm90IGx6bWE="}), "a file in it is truncated"),
        (
            lambda entry: entry["files"].update({"probe.json": packed(b"not lzma, and longer")[:-4]}),
            "a file in it is truncated",
        ),
        (lambda entry: entry["files"].update({"probe.json": "bm90IGx6bWEsIGJ1dCBsb25nZXI="}), "LZMAError"),
        (lambda entry: entry["files"].update({"probe.json": packed(b"x", b"y")}), "followed by other data"),
        (lambda entry: entry["files"].update({"probe.json": 5}), "TypeError"),
        (lambda entry: entry["files"].update({"log.jsonl": 5}), "TypeError"),
        (lambda entry: entry["files"].update({"log.jsonl": None}), "TypeError"),
        (lambda entry: entry["files"].update({"log.jsonl": "ä"}), "ASCII"),
        (lambda entry: entry["files"].update({"log.jsonl": packed(bytes((64 << 20) + 1))}), "more than 64 MiB"),
        (lambda entry: entry["files"].update({"more.json": packed(b"{}")}), "is not what its record names"),
        (lambda entry: entry.update(files=[]), "has no record or no files"),
        (lambda entry: entry.update(files="probe.json"), "has no record or no files"),
        (lambda entry: entry.update(record=[]), "has no record or no files"),
        (lambda entry: entry.update(stage="kmeans"), "is not the key of its settings"),
        (lambda entry: entry.update(stage=["probe"]), "is not the key of its settings"),
        (lambda entry: entry["record"].update(settings=[]), "AttributeError"),
        (lambda entry: entry["record"]["settings"].update(parent=[]), "AttributeError"),
        (lambda entry: entry["record"].update(products=[]), "does not list its products"),
        (lambda entry: entry["record"].update(left_behind=[]), "does not list its products"),
        (lambda entry: entry["record"].update(left_behind={"a.pt": []}), "TypeError"),
        (lambda entry: entry["record"]["products"]["probe.json"].update(sha256="0"), "size and SHA-256"),
        (
            lambda entry: entry["record"].update(left_behind={"a.pt": {"bytes": -1, "sha256": "0" * 64}}),
            "size and SHA-256",
        ),
        (
            lambda entry: entry["record"].update(left_behind={"a.pt": {"bytes": True, "sha256": "0" * 64}}),
            "size and SHA-256",
        ),
        (
            lambda entry: entry["record"].update(left_behind={"a.pt": {"bytes": 1.5, "sha256": "0" * 64}}),
            "size and SHA-256",
        ),
        (lambda entry: entry["record"]["products"]["probe.json"].update(bytes=1), "is not what its record names"),
        *(
            (lambda entry, name=name: entry["files"].update({name: packed(b"")}), "is not a product's name")
            for name in (
                "",
                ".",
                "..",
                "a/b",
                "a\\b",
                "/a",
                "state",
                "lock",
                "lock.x",
                "a\0",
                "a\n",
                "\x1b[2J",
                "ä",
                "a" * 101,
            )
        ),
        *(
            (
                lambda entry, name=name: entry["record"].update(left_behind={name: {"bytes": 1, "sha256": "0" * 64}}),
                "is not a product's name",
            )
            for name in ("../a", "log.jsonl", "encoder-epoch" + "1" * 5000 + ".pt")
        ),
        (lambda entry: entry["record"].update(figures=[]), "have no names"),
        (lambda entry: entry["record"]["figures"].update(test_accuracy="high"), "'test_accuracy' of probe"),
        (lambda entry: entry["record"].update(seconds=[]), "'seconds' of probe"),
        (lambda entry: entry["record"].update(seconds=float("nan")), "not finite or has more than 64 bits"),
        (lambda entry: entry["record"].update(host=float("inf")), "not finite or has more than 64 bits"),
        (lambda entry: entry["record"].update(seconds=10**400), "not finite or has more than 64 bits"),
        (lambda entry: entry["record"].update(host="\ud800"), "UnicodeEncodeError"),
        (lambda entry: entry["record"].update(host=nested(400)), "more than 20 deep"),
        (lambda entry: entry["record"].update({"\x1b[2J": nested(400)}), "more than 20 deep"),
        (lambda entry: entry.pop("key"), "KeyError, 'key'"),
        (lambda entry: entry["files"].pop("probe.json"), "is missing"),
        (
            lambda entry: entry["record"]["products"]["probe.json"].update(sha256="0" * 64),
            "is not what its record names",
        ),
        (lambda entry: entry.pop("record"), "KeyError"),
        (lambda entry: entry["record"].update(left_behind={"networks.pt": {"bytes": 1}}), "KeyError, 'sha256'"),
        (lambda entry: entry["record"].update(left_behind={"networks.pt": {"bytes": 1, "sha256": 2}}), "SHA-256"),
    ],
)
def test_result_that_is_not_what_it_says_is_refused_in_one_line_and_nothing_is_written(
    spoil: Any, said: str, measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    path = archived(store, cell, tmp_path / "results.jsonl")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    spoil(next(entry for entry in entries if entry.get("stage") == "probe"))
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    with pytest.raises(ArchiveError) as refused:
        run("results", ["load", str(path), f"--store={tmp_path / 'other'}"])
    assert said in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "RecursionError"),
        ("[]", "not a JSON object"),
        ('"cell"', "not a JSON object"),
        ("1" * 5000, "Exceeds the limit"),
        ("{}", "KeyError"),
        ('{"cell": 5, "settings": {}}', "it is not a cell"),
        ('{"cell": "\\u001b[2J", "settings": {}}', "it is not a cell"),
        ('{"cell": "0000000000000000", "settings": []}', "it is not a cell"),
        ('{"cell": "0000000000000000"}', "KeyError"),
        ('{"cell": "0000000000000000", "settings": {"\\u001b[2J": 1}}', r"unknown setting \x1b[2J"),
        ('{"cell": "0000000000000000", "settings": {"method": ["\\n"]}}', "is unknown to this version of dae_ssl"),
        (
            '{"cell": "0000000000000000", "settings": {"method": "dae", "seed": 1e300}}',
            "is unknown to this version of dae_ssl",
        ),
        ('{"cell": "0000000000000000", "settings": {"method": {"name": {}}}}', "is unknown to this version of dae_ssl"),
        (
            '{"cell": "0000000000000000", "settings": {"method": "dae", "probe": 1}}',
            "is unknown to this version of dae_ssl",
        ),
    ],
    ids=lambda value: value[:20],
)
def test_line_that_nobody_wrote_is_refused_in_one_line_and_nothing_is_written(
    line: str, said: str, measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    path = archived(store, cell, tmp_path / "results.jsonl")
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ArchiveError) as refused:
        run("results", ["load", str(path), f"--store={tmp_path / 'other'}"])
    assert said in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000
    assert not (tmp_path / "other").exists()


class Runs:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"mkdir '{self.folder}'",)


def test_encoder_that_would_run_something_is_only_copied_and_refused_where_it_is_read(
    measured: tuple[Store, Cell], tmp_path: Path
) -> None:
    store, cell = measured
    node, other, evil = (
        store.node("pretrain", config.key(cell, "pretrain")),
        Store(tmp_path / "other"),
        "encoder-epoch0004.pt",
    )
    figures = above_record(store, cell, "pretrain")["figures"]
    node.product(encoder_name(4)).unlink()
    torch.save({"0.weight": Runs(tmp_path / "it ran")}, node.product(evil))
    commit(store, cell, "pretrain", figures=figures)
    path = archived(store, cell, tmp_path / "results.jsonl")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"{node.key}.pt").write_bytes(node.product(evil).read_bytes())
    run("results", ["load", str(path), f"--weights={tmp_path / 'weights'}", f"--store={other.root}"])
    loaded = other.node("pretrain", node.key).product(evil)
    assert loaded.exists()
    with pytest.raises(WeightsError, match="holds no encoder of this suite"):
        read_encoder(loaded)
    assert not (tmp_path / "it ran").exists()
    torch.load(loaded, weights_only=False)
    assert (tmp_path / "it ran").exists(), "else this would prove nothing"


def test_file_in_an_entry_may_have_as_much_as_it_says_and_comes_out_whole() -> None:
    content = bytes(64 << 20)
    assert _plain(packed(content)) == content
    assert _plain(packed(b"")) == b""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "results load needs a file: name one or more"),
        (["{good}", "--stoer={other}"], "unknown flag --stoer: did you mean --store?"),
        (["{good}", "optimisation.epochs=1"], "optimisation.epochs=1 is not a file: name one"),
        (["{good}", "{there}/nothing.jsonl", "--store={other}"], "nothing.jsonl is not a file: name one that `dae-ssl"),
        (["{good}", "{there}/bytes.jsonl", "--store={other}"], "is not a file of results"),
        (["{good}", "{there}/empty.jsonl", "--store={other}"], "empty.jsonl has no results: name a file"),
        (["{there}/cell.jsonl", "--store={other}"], "cell 0000000000000000 is not the key of its settings"),
    ],
)
def test_files_that_cannot_be_loaded_are_one_line_each(
    arguments: list[str], said: str, measured: tuple[Store, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cell = measured
    monkeypatch.chdir(tmp_path)
    good = archived(store, cell, tmp_path / "good.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(bytes(range(128, 255)))
    (tmp_path / "empty.jsonl").write_text("")
    key = config.cell_key(cell)
    (tmp_path / "cell.jsonl").write_text(good.read_text().replace(f'{{"cell": "{key}"', '{"cell": "' + "0" * 16 + '"'))
    names = {"good": good, "there": tmp_path, "other": tmp_path / "other"}
    with pytest.raises((ConfigError, StoreError)) as refused:
        run("results", ["load", *(argument.format(**names) for argument in arguments)])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "other").exists()


def test_saving_nothing_or_into_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no node of tour is done"):
        run("results", ["save", "tour", f"--store={tmp_path}", str(tmp_path / "r.jsonl")])
    assert not (tmp_path / "r.jsonl").exists()
    with pytest.raises(ConfigError, match="choose a file"):
        run("results", ["save", "tour", f"--store={tmp_path}", str(tmp_path)])


def test_command_saves_and_loads(measured: tuple[Store, Cell], tmp_path: Path, capsys: Any) -> None:
    asked = ["tour", "optimisation.epochs=4", "optimisation.checkpoints=[1,2]", "--no-floors"]
    (first, *_) = ask([*asked, "--store=x"]).cells
    forge(measured[0], first, right=0.8, seed=3)
    path = tmp_path / "results.jsonl"
    run("results", ["save", *asked, f"--store={measured[0].root}", str(path)])
    assert "4 nodes of 1 cells, 4 of them new" in capsys.readouterr().out
    run("results", ["load", str(path), f"--store={tmp_path / 'other'}"])
    assert "4 of 4 nodes" in capsys.readouterr().out
    with pytest.raises(config.ConfigError, match="needs an experiment and a file"):
        run("results", ["save", *asked, f"--store={measured[0].root}"])
    with pytest.raises(config.ConfigError, match="unknown word 'push' after dae-ssl results: choose"):
        run("results", ["push"])
