"""A CUDA graph's stand-in on a CPU: what is recorded is replayed on the same memory, operation by operation."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dae_ssl.replay import Replayed, Work


class Tape(TorchDispatchMode):
    """Records operations as a CUDA graph does: the same operations, numbers and memory in every replay."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host waits for the device"
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():  # a graph knows nothing of it
            for func, args, kwargs, made in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


Tampering = Callable[[Callable[[], None]], Callable[[], None]]


def taped(monkeypatch: pytest.MonkeyPatch, module: ModuleType, tamper: Tampering = lambda replay: replay) -> list[Tape]:
    """Let a module use a tape on a CPU where it uses a graph on a GPU; return the tapes it comes to record."""
    tapes: list[Tape] = []

    def on_cpu(work: Work, state: Any, _device: torch.device, tell: Any, *, plain_calls: int = 1) -> Work:
        def record(work: Work) -> Work:
            before = [tensor.clone() for tensor in state()]  # a capture does not run what it captures
            tapes.append(Tape())
            with tapes[-1]:
                work()
            for tensor, old in zip(state(), before, strict=True):
                tensor.detach().copy_(old)
            return tamper(tapes[-1].replay)

        return Replayed(work, state, tell, record, plain_calls=plain_calls)

    monkeypatch.setattr(module, "repeated", on_cpu)
    return tapes
