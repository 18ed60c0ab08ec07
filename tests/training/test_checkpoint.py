"""Checkpoints: equal states are equal bytes, only data is unpickled, and the last good one is always there."""

import io
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dae_ssl.training.checkpoint import KEPT, States, Training, deserialise, serialise

KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
from dae_ssl.files import write_bytes

def die(*_arguments):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(*{"sync": (os, "fsync", die), "rename": (pathlib.Path, "replace", die)}[sys.argv[2]])
write_bytes(pathlib.Path(sys.argv[1]), b"half a state")
"""


def a_state(value: float = 0.0) -> dict[str, object]:
    return {"networks": {"weight": torch.full((2, 3, 4, 4), value)}, "epoch": 1, "sums": {}}


def complaints_of_loading(states: States) -> tuple[dict[str, object] | None, list[str]]:
    complaints: list[str] = []
    return states.load(complaints.append), complaints


def training(seed: int) -> Training:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).to(memory_format=torch.channels_last)
    return Training(
        nn.ModuleDict({"encoder": network}), torch.optim.Adam(network.parameters(), lr=0.01, fused=True), step=2
    )


def do_a_step(training: Training) -> None:
    images = torch.linspace(-1, 1, 5 * 3 * 16).view(5, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    training.optimizer.zero_grad(set_to_none=True)
    loss = training.networks["encoder"](images).square().mean()
    loss.backward()
    training.optimizer.step()
    training.sums["loss"] = training.sums.get("loss", 0) + loss.detach().double()


def values(given: object) -> object:
    """Return nested values with lists in the place of tensors, for `==`."""
    if isinstance(given, Tensor):
        return given.tolist()
    if isinstance(given, dict):
        return {name: values(item) for name, item in given.items()}
    return [values(item) for item in given] if isinstance(given, list | tuple) else given


def test_deserialise_returns_what_serialise_was_given() -> None:
    state = {"a": torch.arange(3), "b": {"c": [1, 2.5, None, "text", True], "d": torch.tensor(0.1, dtype=torch.double)}}
    returned = deserialise(serialise(state))
    assert values(returned) == values(state)
    assert returned["b"]["d"].dtype == torch.double


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(lambda t: t.to(memory_format=torch.channels_last), id="channels-last"),
        pytest.param(lambda t: torch.cat([t, t])[len(t) :], id="part-of-a-larger-storage"),
        pytest.param(lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), id="strided"),
        pytest.param(lambda t: t.clone().requires_grad_(), id="with-gradient"),
    ],
)
def test_equal_tensors_give_equal_bytes_however_they_are_stored(stored) -> None:
    tensor = torch.arange(96.0).view(2, 3, 4, 4)
    assert serialise({"weight": stored(tensor)}) == serialise({"weight": tensor})
    assert serialise({"weight": stored(tensor)}) != serialise({"weight": tensor + 1})


def test_equal_names_give_equal_bytes_whether_or_not_they_are_one_object() -> None:
    same = "step"
    other = "".join(["st", "ep"])
    assert same is not other
    assert serialise({same: {same: 1}}) == serialise({same: {other: 1}})


def test_a_restored_training_has_the_same_bytes_as_the_one_that_was_saved() -> None:
    one, other = training(seed=0), training(seed=1)
    do_a_step(one)
    content = serialise(one.state())
    assert serialise(other.state()) != content
    other.restore(deserialise(content), torch.device("cpu"))
    assert serialise(other.state()) == content


def test_a_restored_training_goes_on_bit_for_bit() -> None:
    one, other = training(seed=0), training(seed=1)
    do_a_step(one)
    other.restore(deserialise(serialise(one.state())), torch.device("cpu"))
    for going_on in (one, other):
        do_a_step(going_on)
        do_a_step(going_on)
    assert serialise(other.state()) == serialise(one.state())


def test_restored_moments_lie_in_memory_as_their_parameters_do() -> None:
    """Fused Adam reads both by address; in another order it would mix up their elements without an error."""
    one = training(seed=0)
    do_a_step(one)
    one.restore(deserialise(serialise(one.state())), torch.device("cpu"))
    weight = one.networks["encoder"][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    for name in ("exp_avg", "exp_avg_sq"):
        assert one.optimizer.state[weight][name].stride() == weight.stride()


class _Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, content = tmp_path / "executed", io.BytesIO()
    torch.save({"epoch": _Payload(marker)}, content)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        deserialise(content.getvalue())
    assert not marker.exists()
    torch.load(io.BytesIO(content.getvalue()), weights_only=False)
    assert marker.exists(), "the payload would not have done anything either way"


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert complaints_of_loading(States(tmp_path / "missing")) == (None, [])


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    states = States(tmp_path / "state")
    for step in (1, 9, 10, 100):
        states.save(a_state(step), step)
    assert KEPT == 2
    assert [path.name[:15] for path in states.newest_first()] == ["state-000000100", "state-000000010"]
    assert len(list(states.folder.iterdir())) == 2
    assert values(complaints_of_loading(states)) == values([a_state(100), []])


def test_saving_the_same_state_again_leaves_one_file(tmp_path: Path) -> None:
    states = States(tmp_path)
    states.save(a_state(), 5)
    states.save(a_state(), 5)
    assert len(list(tmp_path.iterdir())) == 1


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_is_named(damage, tmp_path: Path) -> None:
    states = States(tmp_path)
    states.save(a_state(1), 1)
    states.save(a_state(2), 2)
    newest = states.newest_first()[0]
    damage(newest)
    state, (complaint,) = complaints_of_loading(states)
    assert values(state) == values(a_state(1))
    assert str(newest) in complaint
    assert "\n" not in complaint
    assert not newest.exists()


def test_training_starts_anew_when_every_checkpoint_is_damaged(tmp_path: Path) -> None:
    states = States(tmp_path)
    for step in (1, 2):
        states.save(a_state(step), step)
    damaged = states.newest_first()
    for path in damaged:
        truncate(path)
    state, complaints = complaints_of_loading(states)
    assert state is None
    assert [str(path) in complaint for path, complaint in zip(damaged, complaints, strict=True)] == [True, True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["sync", "rename"])
def test_a_kill_while_saving_leaves_the_checkpoint_before(moment: str, tmp_path: Path) -> None:
    states = States(tmp_path)
    states.save(a_state(1), 1)
    target = tmp_path / f"state-{2:09d}-{'0' * 16}.pt"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(target), moment]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2, "nothing was being written when the process was killed"
    assert values(complaints_of_loading(states)) == values([a_state(1), []])
    assert list(tmp_path.iterdir()) == states.newest_first(), "the half-written file was left for ever"
