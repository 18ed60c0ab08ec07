"""What was sent, read back from the store: whose a task is, where SLURM has nodes, how attempts ended."""

import json
from pathlib import Path

import pytest

from dae_ssl import config
from dae_ssl.cluster import launch, submissions
from dae_ssl.cluster.queue import Queued
from dae_ssl.cluster.submissions import Launch
from dae_ssl.planning.profile import Profile
from dae_ssl.store import OUTCOMES, Store
from tests.planning.planned import GPU4, dae, planned

CELLS = [dae(seed=seed) for seed in range(3)]


def submitted(root: Path, jobs: dict[str, str | None]) -> Launch:
    """Write down a submission of three cells; `jobs` are the ids that SLURM gave its arrays."""
    store = Store(root)
    made = launch.intend(
        planned(CELLS, root), store, Profile.of("test", GPU4), experiment="alpha", mlflow_experiment="m"
    )
    for array, job in jobs.items():
        made.settle(array, job)
    return made


def queued(made: Launch, array: str, job: str, index: int | None, reason: str = "None") -> Queued:
    return Queued(job, index, "PENDING", reason, made.job_name(array), made.comment(array))


def test_array_has_the_id_that_slurm_gave_it_or_none(tmp_path: Path) -> None:
    made = submitted(tmp_path, {"pretrain-0": "17", "features-0": None})
    assert [made.job(array) for array in ("pretrain-0", "features-0", "probe-0")] == ["17", None, None]
    assert [made.open(array) for array in ("pretrain-0", "features-0", "probe-0")] == [False, False, True]
    (read,) = submissions.launches(Store(tmp_path))
    assert read.arrays() == ["pretrain-0", "features-0", "probe-0", "kmeans-0"]
    assert (read.experiment, read.source) == ("alpha", made.source)


@pytest.mark.parametrize(("named", "commented", "its"), [(True, True, True), (True, False, True), (False, True, True),
                                                         (False, False, False)])  # fmt: skip
def test_task_is_a_submissions_by_its_name_or_comment_and_the_arrays_id(
    named: bool, commented: bool, its: bool, tmp_path: Path
) -> None:
    made = submitted(tmp_path, {"pretrain-0": "17"})
    name = made.job_name("pretrain-0") if named else "another"
    comment = made.comment("pretrain-0") if commented else ""
    assert made.owns(Queued("17", 0, "RUNNING", "", name, comment)) is its
    assert not made.owns(Queued("18", 0, "RUNNING", "", name, comment)), (
        "ids begin anew on a cluster that is set up anew"
    )


def test_nodes_are_where_slurm_has_their_tasks(tmp_path: Path) -> None:
    made = submitted(tmp_path, {"pretrain-0": "17", "features-0": "18"})
    keys = [config.key(cell, "pretrain") for cell in CELLS]
    entries = [queued(made, "pretrain-0", "17", 0), queued(made, "pretrain-0", "17", 2)]
    found = submissions.active(Store(tmp_path), entries)
    assert {id: (spot.array, spot.index) for id, (spot, _) in found.items()} == {
        ("pretrain", keys[0]): ("17", 0),
        ("pretrain", keys[2]): ("17", 2),
    }
    never = [queued(made, "features-0", "18", 1, "DependencyNeverSatisfied"), queued(made, "pretrain-0", "17", None)]
    assert submissions.active(Store(tmp_path), never) == {}
    strange = Queued("17", 0, "RUNNING", "None", "another", "")
    assert submissions.active(Store(tmp_path), [strange]) == {}, "the id alone tells nothing"


def test_last_task_that_was_sent_for_a_node_is_told_with_how_its_attempts_ended(tmp_path: Path) -> None:
    made = submitted(tmp_path, {"pretrain-0": "17", "features-0": None})
    ends = [
        {"task": "17_1", "outcome": "requeued"},
        {"task": "17_0", "outcome": "done"},
        {"task": "17_1", "outcome": "done"},
    ]
    lines = [json.dumps(end) for end in ends]
    made.folder.product(OUTCOMES).write_text("\n".join([lines[0], "torn {", "[]", *lines[1:]]))
    sent = submissions.sent(Store(tmp_path))
    assert {stage for stage, _ in sent} == {"pretrain"}, "an array that was refused has sent nothing"
    task = sent["pretrain", config.key(CELLS[1], "pretrain")]
    assert (task.name, task.printed.name) == ("17_1", "17_1_0_log.out")
    assert [end["outcome"] for end in task.outcomes()] == ["requeued", "done"]


def test_file_of_an_array_that_is_gone_only_loses_history(tmp_path: Path) -> None:
    made = submitted(tmp_path, {"pretrain-0": "17", "features-0": "18"})
    made.folder.product("pretrain-0.jsonl").unlink()
    assert {stage for stage, _ in submissions.sent(Store(tmp_path))} == {"features"}


def test_array_of_a_submitter_that_was_killed_is_looked_for_and_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ADOPTION_SECONDS", 0.0)
    made = submitted(tmp_path, {"pretrain-0": "17"})
    told: list[str] = []
    launch.adopt(Store(tmp_path), lambda: [queued(made, "features-0", "18", 0)], told.append)
    assert [made.job(array) for array in made.arrays()] == ["17", "18", None, None]
    assert not any(made.open(array) for array in made.arrays())
    assert told == [
        f"looking for arrays of the interrupted submission {made.folder.key}",
        "found features-0 of an interrupted submission as job 18",
    ]
    launch.adopt(Store(tmp_path), lambda: pytest.fail("everything is known"), told.append)
