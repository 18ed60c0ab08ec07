"""The whole training state, and its rolling checkpoints: atomic, checksummed, the last good ones kept."""

import hashlib
import io
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dae_ssl.files import write_bytes

KEPT = 2
_NAME = re.compile(r"state-(\d{9})-([0-9a-f]{16})\.pt")


@dataclass
class Training:
    """Everything that the next step depends on: order, views and learning rate are functions of it."""

    networks: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """The number of finished epochs."""
    step: int = 0
    """The number of finished steps of the current epoch."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Each term of the loss summed over those steps, float64 scalars on the device."""

    def state(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "networks": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
        }

    def next_epoch(self) -> None:
        """Count the current epoch as finished."""
        self.epoch, self.step = self.epoch + 1, 0
        for value in self.sums.values():  # in place: a captured step adds to these same tensors
            value.zero_()

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore a saved state onto a device."""
        self.networks.load_state_dict(state["networks"])
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate  # every step sets its value; a captured step needs this very tensor
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if value.shape == parameter.shape:
                    # Fused Adam goes through a parameter and its moments by address: their strides must be the same.
                    moments[name] = torch.empty_like(parameter).copy_(value)
        self.epoch, self.step = state["epoch"], state["step"]
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}


def serialise(state: Mapping[str, Any]) -> bytes:
    """Return tensors and plain values as the bytes of a PyTorch file; equal states give equal bytes."""
    buffer = io.BytesIO()  # given a path, torch.save would write its name into the file
    torch.save(_on_cpu(state), buffer)
    return buffer.getvalue()


def deserialise(content: bytes) -> dict[str, Any]:
    """Return the state that `serialise` was given, on the CPU. Only tensors and plain values are unpickled."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return state


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        # A contiguous copy: a view would bring its whole storage along, and the bytes depend on the memory format.
        return value.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {_on_cpu(name): _on_cpu(item) for name, item in value.items()}
    if isinstance(value, str):
        return sys.intern(
            value
        )  # pickle writes one string object once, but equal strings that are different objects each time
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value


@dataclass(frozen=True)
class States:
    """The folder of rolling checkpoints of one node."""

    folder: Path

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Write the state after `step` steps of the whole run, then remove all but the newest states."""
        content = serialise(state)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / f"state-{step:09d}-{_digest(content)}.pt", content)
        for old in self.newest_first()[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self, complain: Callable[[str], None]) -> dict[str, Any] | None:
        """Return the newest undamaged state, or None; `complain` receives a line for each damaged one, then removed."""
        for leftover in self.folder.glob(".state-*"):  # left by a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        for path in self.newest_first():
            content = path.read_bytes()
            match = _NAME.fullmatch(path.name)
            if match is not None and _digest(content) == match[2]:
                return deserialise(content)
            complain(f"checkpoint {path} is damaged (its SHA-256 does not match): falling back to the one before")
            path.unlink(missing_ok=True)
        return None

    def newest_first(self) -> list[Path]:
        """Return the checkpoints, the one with the most steps first."""
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
