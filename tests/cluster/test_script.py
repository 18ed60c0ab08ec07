"""Batch scripts: what sbatch is asked for, what a task finds in its environment, what reaches sbatch of a shell."""

import os
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.cluster import launch
from dae_ssl.cluster import script as scripts
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.compute.resources import Resources
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import profiles


def text(profile: Profile, tmp_path: Path, stage: str = "pretrain") -> str:
    """Return the whole script of a stage's array for three cells, its parents' being job 77."""
    cells = [config.cell(method="dae", seed=seed) for seed in range(3)]
    store = Store(tmp_path)
    made = plan.make(cells, store, profile, queued={}, array_size=1001)
    intent = launch.intend(made, store, profile, experiment="alpha", mlflow_experiment="alpha")
    (array,) = [array for array in made.arrays if array.stage == stage]
    return launch.script(intent, array, array.after and "77", store, profile).text()


def script(profile: Profile, stage: str, tmp_path: Path) -> list[str]:
    """Return the #SBATCH lines of a stage's array for a cell, its parents' being job 77."""
    cells = [config.cell(method="dae", seed=seed) for seed in range(3)]
    store = Store(tmp_path)
    made = plan.make(cells, store, profile, queued={}, array_size=1001)
    intent = launch.intend(made, store, profile, experiment="alpha", mlflow_experiment="alpha")
    (array,) = [array for array in made.arrays if array.stage == stage]
    text = launch.script(intent, array, array.after and "77", store, profile).text()
    (snapshot,) = (tmp_path / "snapshots").iterdir()
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    known = {
        str(snapshot): "SNAPSHOT",
        intent.folder.key: "LAUNCH",
        str(tmp_path): "STORE",
        intent.folder.key[-6:]: "ID",
    }
    for value, name in known.items():
        lines = [line.replace(value, name) for line in lines]
    return lines


def test_script_for_four_gpus_asks_for_exactly_what_its_profile_says(tmp_path: Path) -> None:
    assert script(profiles.profile("gpu4"), "pretrain", tmp_path) == [
        "account=my-project",
        "array=0-2%8",
        "chdir=SNAPSHOT",
        "comment='dae_ssl LAUNCH pretrain-0'",
        "cpus-per-task=16",
        "gpus-per-node=4",
        "job-name=alpha.pretrain-0.ID",
        "mem=32768M",
        "nodes=1",
        "ntasks-per-node=1",
        "open-mode=append",
        "output=STORE/launches/LAUNCH/logs/%A_%a_0_log.out",
        "partition=gpu",
        "requeue",
        "signal=USR2@90",
        "time=240",
    ]


def test_script_of_a_packed_profile_with_its_own_options_follows_its_parents(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "partition": "a100", "qos": "long", "array_parallelism": 2, "signal_seconds": 120, "sbatch": ["exclusive"],
        "stages": {"pretrain": {"packing": 2, "gpus_per_machine": 2}, "kmeans": {"partition": "cpu", "memory_gb": 1.5,
                                                                           "sbatch": ["constraint=big"]}},
    }  # fmt: skip
    assert script(Profile.of("a", given), "kmeans", tmp_path) == [
        "array=0-1%2",
        "chdir=SNAPSHOT",
        "comment='dae_ssl LAUNCH kmeans-0'",
        "constraint=big",
        "cpus-per-task=2",
        "dependency=aftercorr:77",
        "exclusive",
        "job-name=alpha.kmeans-0.ID",
        "kill-on-invalid-dep=yes",
        "mem=1536M",
        "nodes=1",
        "ntasks-per-node=1",
        "open-mode=append",
        "output=STORE/launches/LAUNCH/logs/%A_%a_0_log.out",
        "partition=cpu",
        "qos=long",
        "requeue",
        "signal=USR2@120",
        "time=60",
    ]


# ---------------------------------------------------------------------------------- what a task finds


def test_task_has_the_code_of_its_snapshot_before_any_other(tmp_path: Path) -> None:
    lines = text(Profile.of("mine", {}), tmp_path).splitlines()
    (snapshot,) = (tmp_path / "snapshots").iterdir()
    assert f"export PYTHONPATH={snapshot}" in lines
    assert f"export DAE_SSL_SNAPSHOT={snapshot.name}" in lines
    assert f"export DAE_SSL_STORE={tmp_path}" in lines


def test_lines_of_the_profile_come_before_the_variables_and_values_are_quoted(tmp_path: Path) -> None:
    given = {"setup": ["module load cuda"], "environment": ["WORDS=two words; rm -r"]}
    lines = text(Profile.of("mine", given), tmp_path).splitlines()
    assert lines.index("module load cuda") < lines.index("export WORDS='two words; rm -r'")


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        ({"cpus_per_machine": 16, "ranks_per_machine": 4, "gpus_per_machine": 4}, 4),
        ({"cpus_per_machine": 9, "packing": 2, "gpus_per_machine": 2}, 4),
        ({"cpus_per_machine": 1, "ranks_per_machine": 2}, 1),
    ],
)
def test_processes_of_a_task_share_its_processors(resources: dict[str, int], threads: int, tmp_path: Path) -> None:
    written = text(Profile.of("mine", {"stages": {"pretrain": resources}}), tmp_path)
    assert f"export OMP_NUM_THREADS={threads}\n" in written


def test_only_tasks_of_several_machines_meet(tmp_path: Path) -> None:
    several = {"stages": {"pretrain": {"machines": 2}}}
    assert "DAE_SSL_RENDEZVOUS" in text(Profile.of("mine", several), tmp_path / "two")
    assert "DAE_SSL_RENDEZVOUS" not in text(Profile.of("mine", {}), tmp_path / "one")


def test_what_follows_a_task_runs_outside_its_container_and_knows_its_limits(tmp_path: Path) -> None:
    given = {"container": ["apptainer", "exec", "x.sif"], "max_requeues": 7, "max_failures": 2}
    lines = text(Profile.of("mine", given), tmp_path).splitlines()
    (last,) = [line for line in lines if "after_task.sh" in line]
    assert last.startswith("exec bash ")
    assert last.endswith(" 7 2")
    (start,) = [line for line in lines if "x.sif" in line]
    assert "apptainer exec x.sif python -m" in start


def test_what_is_not_asked_for_is_left_to_the_cluster() -> None:
    asked = scripts.allocation(Profile.of("mine", {}), Resources())
    assert not {"partition", "account", "qos", "gpus_per_node"} & asked.keys()


@pytest.mark.parametrize(("gpu_type", "line"), [(None, "--gpus-per-node=4"), ("a100", "--gpus-per-node=a100:4")])
def test_gpus_are_asked_for_by_number_or_by_type_and_number(gpu_type: str | None, line: str, tmp_path: Path) -> None:
    pretrain = {"ranks_per_machine": 4, "gpus_per_machine": 4, "gpu_type": gpu_type}
    assert f"#SBATCH {line}\n" in text(Profile.of("mine", {"stages": {"pretrain": pretrain}}), tmp_path)


# ---------------------------------------------------------------------------------- what reaches sbatch


def test_sbatch_has_the_variables_of_the_profile_and_the_shell_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("MINE", "yes")
    with scripts.sending(Profile.of("mine", {"pass_environment": ["MINE"]}), "probe-0"):
        assert dict(os.environ) == {"MINE": "yes"}
        os.environ["MORE"] = "1"
    assert (os.environ["SLURM_JOB_ID"], "MORE" in os.environ) == ("7", False)


def test_refusal_is_one_line_in_the_words_of_slurm() -> None:
    from submitit.core.utils import FailedJobError

    said = "sbatch: error: Batch job submission failed: Invalid qos specification\nsbatch: more"
    with (
        pytest.raises(SlurmError, match=r"^sbatch refused probe-0: Batch job submission failed: Invalid qos spec"),
        scripts.sending(Profile.of("mine", {}), "probe-0"),
    ):
        raise FailedJobError(said)
