"""What a profile takes, what tasks get of the environment, and what is said of a setting that cannot be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dae_ssl.config import ConfigError
from dae_ssl.planning import profile
from dae_ssl.planning.profile import Profile
from jobs import profiles


def refused(**given: Any) -> str:
    """Return the one line that a profile is refused with."""
    with pytest.raises(ConfigError) as caught:
        Profile.of("mine", given)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("profile mine: ")
    return message.removeprefix("profile mine: ")


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("nodes", "machines"),
        ("ranks_per_node", "ranks_per_machine"),
        ("gpus_per_node", "gpus_per_machine"),
        ("cpus_per_node", "cpus_per_machine"),
    ],
)
def test_setting_under_its_former_name_is_one_line_that_gives_the_present_one(former: str, present: str) -> None:
    told = refused(stages={"features": {"memory_gb": 1}, "pretrain": {former: 4}})
    assert told == f"stages.pretrain.{former} is now called {present}: write {present}: 4"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stages": {"pretrain": {"gpu_type": "a100"}}}, "gpus_per_machine=0: choose at least 1 with"),
        ({"stages": {"probe": {"gpu_type": "a100:1", "gpus_per_machine": 1}}}, "gpu_type='a100:1': choose a name"),
        *(
            ({"stages": {"probe": {"gpus_per_machine": 1, "sbatch": [option]}}}, f"sbatch={option!r}: choose gpus_per")
            for option in ("gres=gpu:a100:1", "gres=shard:1,gpu:2", "tres-per-task=gres/gpu:1", "gpus=a100:1")
        ),
        ({"stages": {"probe": {"gpus_per_machine": 1, "gpu_type": "é"}}}, "gpu_type='é': choose a name"),
        ({"launcher": "pbs"}, "launcher='pbs': choose slurm or local"),
        ({"device": "gpu"}, "device='gpu': choose auto, cpu, cuda"),
        ({"partitions": "main"}, "unknown setting partitions: did you mean partition?"),
        ({"array_size": 0}, "array_size=0: choose null or at least 1"),
        ({"max_requeues": -1}, "max_requeues=-1: choose 0 or more"),
        ({"environment": ["MINE"]}, "environment='MINE': choose NAME=VALUE"),
        ({"stages": {"probe": {"packing": 2, "gpus_per_machine": 2}}}, "stages.probe.packing=2: choose 1"),
        ({"stages": {"probe": {"ranks_per_machine": 2}}}, "stages.probe.ranks_per_machine=2: choose 1"),
        ({"stages": {"probe": {"minutes": 1}}}, "stages.probe.minutes=1: choose more than signal_seconds, 90 s"),
    ],
)
def test_setting_that_cannot_be_is_named_with_its_value_and_choices(given: dict[str, Any], told: str) -> None:
    assert refused(**given).startswith(told)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    told = refused(tracking_uri="https://me:secret@mlflow.example")
    assert "MLFLOW_TRACKING_PASSWORD" in told
    assert "secret" not in told


def test_a_task_gets_of_the_environment_what_the_profile_names_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("MINE", "yes")
    assert "SLURM_JOB_ID" not in profile.passed(Profile.of("mine", {}))
    assert profile.passed(Profile.of("mine", {"pass_environment": ["MINE", "NOT_SET"]})) == {"MINE": "yes"}


def test_what_a_profile_states_for_its_tasks_wins_over_what_every_task_has() -> None:
    given = {"tracking_uri": "https://mlflow.example", "scratch": "/local", "environment": ["TMPDIR=/mine=1"]}
    stated = profile.stated(Profile.of("mine", given), Path("/store"))
    assert stated["DAE_SSL_STORE"] == "/store"
    assert stated["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
    assert stated["TMPDIR"] == "/mine=1"


def test_the_two_profiles_of_four_gpus_differ_only_in_how_pretraining_uses_them() -> None:
    shared, packed = profiles.profile("gpu4"), profiles.profile("gpu4-packed")
    own = replace(packed.stages.pretrain, packing=1, ranks_per_machine=4)
    assert (packed.stages.pretrain.packing, packed.stages.pretrain.ranks, packed.stages.pretrain.gpus) == (4, 1, 4)
    assert replace(packed, name="gpu4", stages=replace(packed.stages, pretrain=own)) == shared
