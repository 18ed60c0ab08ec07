"""Ranks and their devices, the process group, and the communication between ranks."""

import contextlib
import ctypes
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dae_ssl.config import require


@dataclass(frozen=True)
class World:
    """The ranks that train one model together; a single process is a world of one rank."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and prints messages."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """Return this rank's part of a global batch. Raises ConfigError unless the ranks divide it evenly."""
        choices = f"a multiple of the {self.size} ranks"
        require(batch_size % self.size == 0, "optimisation.batch_size", batch_size, choices)
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank; every rank gets the same answer."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor(int(flag), device=self.device)).item())

    def broadcast(self, value: Any) -> Any:
        """Return the first rank's value on every rank, pickled between them; tensors travel through the CPU."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def barrier(self) -> None:
        """Wait until every rank has reached this point."""
        if self.size > 1:
            dist.barrier()


class Gradients:
    """The gradients of some parameters; with several ranks they are views of one buffer, summed in one all-reduce."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], world: World) -> None:
        """Hold the parameters, which are dense, of one type and on the rank's device."""
        self.parameters, self.world = parameters, world
        self.buffer: Tensor | None = None
        self.views: list[Tensor] = []
        if world.size > 1:
            sizes = [parameter.numel() for parameter in parameters]
            self.buffer = torch.zeros(sum(sizes), dtype=parameters[0].dtype, device=world.device)
            # Each view has its parameter's strides: the fused update goes through both by address.
            for parameter, start in zip(parameters, itertools.accumulate(sizes, initial=0), strict=False):
                self.views.append(self.buffer.as_strided(parameter.shape, parameter.stride(), start))

    def clear(self) -> None:
        """Clear the gradients before a loss is computed."""
        for parameter in self.parameters:
            parameter.grad = None

    def of(self, loss: Tensor) -> None:
        """Give every parameter the gradient of this rank's loss."""
        if self.buffer is None:
            loss.backward()
            return
        # One kernel copies all of them; backward() would add them to the buffer one after another.
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        with_part = [index for index, gradient in enumerate(gradients) if gradient is not None]
        torch._foreach_copy_([self.views[index] for index in with_part], [gradients[index] for index in with_part])
        for index in with_part:  # a parameter that the loss does not depend on has no gradient, as with one rank
            self.parameters[index].grad = self.views[index]

    def exchange(self) -> None:
        """Replace every gradient by its mean over the ranks."""
        if self.buffer is not None:
            self.world.sum(self.buffer).div_(self.world.size)


@contextlib.contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """Join the process group that torchrun describes in the environment, or be a world of one; leave it at the end.

    `device` is `auto` (a GPU if there is one), `cpu` or `cuda`. Raises ConfigError if this rank has no such device.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.set_device(chosen)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products
    if size == 1:
        yield World(0, 1, chosen)
        return
    backend, bound = ("nccl", chosen) if chosen.type == "cuda" else ("gloo", None)
    dist.init_process_group(backend, timeout=timedelta(minutes=30), device_id=bound)
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    require(name in ("auto", "cpu", "cuda"), "device", name, "auto, cpu or cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    require(local < count, "device", name, f"cpu, or fewer ranks: each needs its own GPU, and there are {count}")
    return torch.device("cuda", local)


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Make a GPU compute deterministically while the block runs, with TensorFloat-32 only for the precision `tf32`.

    The former settings are restored, so that results do not depend on what the process computed before.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    deterministic: Any = torch.utils.deterministic
    repeatable, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, deterministic.fill_uninitialized_memory
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        cudnn.benchmark = deterministic.fill_uninitialized_memory = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, deterministic.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(repeatable, warn_only=warned)


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next training step instead of returning them to the kernel.

    Activations of a batch are tens of megabytes each, which malloc would map and unmap in every step; faulting their
    pages in again takes about half of a step on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library lacks it: slower, but with the same results
        mallopt = ctypes.CDLL(None).mallopt
        m_mmap_threshold, m_trim_threshold = -3, -1
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, (1 << 31) - 1)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the machine or its GPU has run out of memory."""
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)


def lost_peer(error: BaseException) -> bool:
    """Return whether an error means that communication failed because another rank is gone, which has the reason."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/" in str(error))


class _GatherRows(torch.autograd.Function):
    """Gathers the rows of all ranks; backward sums the gradients of every rank's loss by this rank's rows.

    `torch.distributed.nn.functional.all_gather` is deprecated, cannot be compiled, and sums in another order from four
    ranks on. Its replacement in PyTorch computes the very same sums, but is private and has another name in each
    version.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size = rank, size
        parts = [torch.empty_like(rows) for _ in range(size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # Every rank's loss depends on these rows: all gradients are summed before this rank takes its part.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(ctx.size)[ctx.rank], None, None


def gather_rows(rows: Tensor, world: World) -> Tensor:
    """Return the rows (n, d) of all ranks, (size * n, d) in rank order; each rank's own rows receive gradients."""
    if world.size == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows, world.rank, world.size)
    return gathered
