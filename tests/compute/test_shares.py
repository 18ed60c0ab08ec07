"""What each lane gets of this machine: which lanes there are, and GPUs, processors and memory shared out."""

import re
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import shares
from dae_ssl.compute.resources import Resources
from dae_ssl.compute.shares import Kind, deal
from dae_ssl.config import ConfigError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store

ALL = frozenset(config.STAGES)


def profile(**given: object) -> tuple[Resources, str]:
    """Return what a local profile has pretraining ask for, and on which device."""
    made = Profile.of("mine", {"launcher": "local", **given})
    return made.stages.pretrain, made.device


def test_machine_without_a_gpu_has_one_lane_that_takes_everything_as_it_always_was() -> None:
    (only,) = deal(None, *profile(), [], 8)
    assert (only.stages, only.variables) == (ALL, {})


def test_lanes_without_a_gpu_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for lanes, processors, threads in ((2, 8, "4"), (3, 8, "2"), (4, 2, "1")):
        dealt = deal(lanes, *profile(), [], processors)
        assert [(kind.stages, kind.variables) for kind in dealt] == [(ALL, {"OMP_NUM_THREADS": threads})] * lanes
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert deal(2, *profile(), [], 8)[0].variables == {"OMP_NUM_THREADS": "3"}


def test_gpu_has_two_lanes_and_kmeans_one_of_its_own_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first, second, beside = deal(None, *profile(), ["0"], 12)
    assert first == second == Kind(stages=frozenset(("pretrain", "features", "probe")), device="auto",
                                   variables={"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0"},
                                   gpu_share=0.475)  # fmt: skip
    assert beside == Kind(stages=frozenset({"kmeans"}), device="cpu",
                          variables={"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip


def test_lanes_are_dealt_round_over_the_gpus() -> None:
    def seen(lanes: int | None, **given: object) -> list[str]:
        return [kind.variables["CUDA_VISIBLE_DEVICES"] for kind in deal(lanes, *profile(**given), ["4", "7"], 8)]

    assert seen(None) == ["4", "7", "4", "7", ""]
    assert seen(3) == ["4", "7", "4", ""]
    packed = {"stages": {"pretrain": {"packing": 2, "gpus_per_machine": 2}}}
    assert seen(None, **packed) == ["4", "7", ""]


def test_lanes_beyond_what_a_machine_can_be_meant_to_have_are_one_line() -> None:
    assert len(deal(8, *profile(), [], 2)) == 8
    assert len(deal(12, *profile(), ["0", "1", "2"], 2)) == 13
    for lanes, visible in ((9, []), (10**30, []), (13, ["0", "1", "2"])):
        with pytest.raises(
            ConfigError, match=r"--parallel=\d+: choose at most \d+: 4 for each of 2 processors, or of \d GPUs"
        ):
            deal(lanes, *profile(), visible, 2)


def test_cell_that_takes_all_ranks_has_all_gpus_and_no_lane_beside_it() -> None:
    ranks = profile(stages={"pretrain": {"ranks_per_machine": 4}})
    first, beside = deal(None, *ranks, ["0", "1", "2", "3"], 8)
    assert first.variables == {}
    assert beside.stages == {"kmeans"}
    with pytest.raises(ConfigError, match="--parallel=2: choose 1, since each cell takes 4 ranks"):
        deal(2, *ranks, [], 8)


def test_lanes_of_a_gpu_share_its_memory_and_one_alone_has_it_all() -> None:
    def parts(lanes: int, *visible: str) -> list[float]:
        return [kind.gpu_share for kind in deal(lanes, *profile(), visible, 8)]

    assert parts(1, "0") == [1.0, 1.0]
    assert parts(2, "0") == [0.475, 0.475, 1.0]
    assert parts(3, "4", "7") == [0.475, 1.0, 0.475, 1.0]
    assert parts(4, "0") == [0.2375] * 4 + [1.0]


# ---------------------------------------------------------------------------------- memory


def prepared(store: Store, images: int) -> Store:
    """Commit a data set of which only the record is there, and tells how many images it has."""
    folder, half = store.data("cifar10"), {"images": images // 2, "shape": [3, 32, 32]}
    folder.create()
    folder.commit({"splits": {"train": half, "test": half}})
    return store


def test_process_takes_what_its_largest_stage_takes(tmp_path: Path) -> None:
    store = prepared(Store(tmp_path), 60000)

    def takes(**given: object) -> float:
        cell = config.cell({"data": {"evaluate": "cifar10"}} | given)
        return shares.takes_gb(cell, store) / shares.MARGIN

    trained, pixels = {"method": {"name": "dae"}}, {"method": {"name": "random"}}
    few = prepared(Store(tmp_path / "few"), 1000)
    for batch, gb in {256: 1.91, 512: 2.70}.items():
        cell = config.cell(trained, data={"evaluate": "cifar10"}, optimisation={"batch_size": batch})
        assert shares.takes_gb(cell, few) == pytest.approx(shares.MARGIN * gb, rel=0.1), (
            "as measured, with few features"
        )
    assert takes(**trained) == takes(**pixels) == pytest.approx(4.46, rel=0.05), "as measured, with 60,000 images"
    assert takes(**pixels, features={"dtype": "float32"}) == pytest.approx(1.5 + 3 * 60000 * 8192 * 4 / 1e9)
    assert takes(**trained, optimisation={"batch_size": 2048}) == pytest.approx(1 + 2048 * 0.0035)
    assert shares.takes_gb(config.cell(pixels), Store(tmp_path / "none")) > 0, "where no images are prepared"


def test_more_lanes_than_memory_allows_are_one_line_and_one_lane_never_is() -> None:
    shares.require_room(2, 2.0, 4.0)
    shares.require_room(9, 2.0, None)
    shares.require_room(1, 2.0, 0.5)
    told = "--parallel=3: choose at most 2: each process may take 2.0 GB, and 5.5 GB of memory are free"
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        shares.require_room(3, 2.0, 5.5)


def machine(folder: Path, cgroup: str, **groups: dict[str, object]) -> tuple[Path, Path]:
    """Return what stands for /proc and /sys/fs/cgroup of a machine on which 8 GB are available."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text("MemTotal:  16000000 kB\nMemAvailable:   7812500 kB\n")
    (folder / "proc" / "self" / "cgroup").write_text(cgroup)
    for path, values in groups.items():
        group = folder / "sys" / path.replace("_", "/")
        group.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (group / name).write_text(f"{value}\n")
    return folder / "proc", folder / "sys"


def limited(most: object, used: int, dropped: int) -> dict[str, object]:
    return {"memory.max": most, "memory.current": used, "memory.stat": f"anon 1\ninactive_file {dropped}"}


@pytest.mark.parametrize(
    ("cgroup", "groups", "gb"),
    [
        ("0::/\n", {}, 8.0),
        ("0::/\n", {"": limited("max", 10**9, 0)}, 8.0),
        ("0::/\n", {"": limited(6 * 10**9, 3 * 10**9, 10**9)}, 4.0),
        ("0::/job/step\n", {"job": limited(6 * 10**9, 4 * 10**9, 0), "job_step": limited("max", 0, 0)}, 2.0),
        ("0::/elsewhere\n", {"": limited(5 * 10**9, 0, 0)}, 5.0),
        ("4:memory:/job\n0::/\n", {"memory_job": {
            "memory.limit_in_bytes": 3 * 10**9, "memory.usage_in_bytes": 10**9,
            "memory.stat": "total_inactive_file 500000000"}}, 2.5),
    ],
)  # fmt: skip
def test_memory_is_what_the_machine_and_the_job_have_left(
    cgroup: str, groups: dict[str, dict[str, object]], gb: float, tmp_path: Path
) -> None:
    assert shares.available_gb(*machine(tmp_path, cgroup, **groups)) == gb


def test_memory_is_not_known_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert shares.available_gb(tmp_path, tmp_path) is None
    assert (shares.available_gb() or 1) > 0
