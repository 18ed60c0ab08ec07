"""The file of an array: what is written for a task is what the task reads."""

from pathlib import Path

import pytest

from dae_ssl.cluster import tasks
from dae_ssl.compute.nodes import Task, needed
from dae_ssl.compute.processes import Conditions
from dae_ssl.files import StoreError
from dae_ssl.planning.profile import Profile
from tests.planning.planned import GPU4, dae


def test_task_is_read_back_from_the_file_of_its_array(tmp_path: Path) -> None:
    cell = dae()
    conditions = Conditions(store=tmp_path, resources=Profile.of("t", GPU4).resources("pretrain"))
    first, *others = needed([cell]).values()
    written = (Task(0, (first,)), Task(7, tuple(others)))
    (tmp_path / "a.jsonl").write_text("\n".join(tasks.lines(conditions, written)))
    for task in written:
        read, how = tasks.read(tmp_path / "a.jsonl", task.index)
        assert how == conditions
        assert [(node.id, node.parent, node.cell) for node in read.nodes] == [
            (node.id, node.parent, node.cell) for node in task.nodes
        ]
    with pytest.raises(StoreError, match="has no task 3"):
        tasks.read(tmp_path / "a.jsonl", 3)
