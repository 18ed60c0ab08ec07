"""One training step: this rank's share of a global batch -> updated networks.

On a GPU, the forward and backward pass are compiled and the whole step is captured as a CUDA graph, since the networks
are small and launch many kernels; several ranks have two graphs, with the exchange of gradients between them. Since a
graph reads the same memory at each replay, the inputs of all steps lie in tables that are filled once an epoch, and a
counter on the device selects the next step. On a CPU the same functions are called directly.
"""

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dae_ssl.config import Cell, ConfigError, Optimisation
from dae_ssl.distributed import Gradients, World
from dae_ssl.replay import Work, capturable, repeated
from dae_ssl.training.checkpoint import Training
from dae_ssl.training.methods.base import SelfSupervised
from dae_ssl.training.networks import unit_interval
from dae_ssl.training.views import Parameters, Plan, draw, permutation, plan_for, render

PLAIN_STEPS = 3
"""Steps that run uncaptured before one is captured, in which the compiler and libraries set up what they keep."""

Repeat = Callable[..., Work]
"""The signature of `replay.repeated`."""
Compute = Callable[[Tensor, "Tables", Mapping[str, Tensor]], Mapping[str, Tensor]]


class Listener(Protocol):
    """Receives reports on how the steps are computed."""

    def event(self, kind: str, text: str) -> None:
        """Receive an event and the line that describes it."""

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Receive facts about how the steps are computed, for the commit record."""


@dataclass(frozen=True)
class Tables:
    """The inputs of all steps of an epoch, on the device, in the order of the steps; each reads b images of this rank.

    The memory is the same in every epoch.
    """

    rows: Tensor
    """int64 (steps x b,), the images' numbers in the order in which the steps read them."""
    views: tuple[Parameters, Parameters]
    """The parameters of both views of each image."""
    rates: Tensor
    """float64 (steps,), learning rates."""
    position: Tensor
    """int64 (1,), the number of the next step."""

    def take(self, other: "Tables") -> None:
        """Copy the contents of another epoch's tables into this memory."""
        for mine, theirs in zip(self._tensors(), other._tensors(), strict=True):
            mine.copy_(theirs)

    def _tensors(self) -> Iterator[Tensor]:
        yield from (self.rows, self.rates, self.position)
        for view in self.views:
            yield from (getattr(view, part.name) for part in dataclasses.fields(view))


def tables(cell: Cell, images: Tensor, share: slice, epoch: int, step: int) -> Tables:
    """Return an epoch's tables, with `step` as the next step, on the device of the images, uint8 (n, 3, size, size).

    All views of the epoch are drawn at once: the numbers are the same, and the steps launch no small kernels for it.
    """
    settings, device = cell.optimisation, images.device
    steps = len(images) // settings.batch_size
    order = permutation(len(images), seed=cell.seed, epoch=epoch, device=device)[: steps * settings.batch_size]
    rows = order.view(steps, settings.batch_size)[:, share].flatten()

    def view(number: int) -> Parameters:
        return draw(cell.views, seed=cell.seed, epoch=epoch, indices=rows, view=number, size=images.shape[-1])

    rates = [learning_rate(settings, epoch * steps + n, settings.epochs * steps) for n in range(steps)]
    return Tables(
        rows,
        (view(1), view(2)),
        torch.tensor(rates, dtype=torch.float64, device=device),
        torch.tensor([step], device=device),
    )


def learning_rate(settings: Optimisation, step: int, steps: int) -> float:
    """Return the rate of a step (counted from 0) out of all steps of the run: cosine to zero, or constant."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


@contextmanager
def compile_cache(folder: Path) -> Iterator[None]:
    """Make torch.compile use a folder as its cache while the block runs.

    Later cells, and processes on other machines, then do not compile the same code again. The cache holds code that
    will be run, as the snapshots in a store do: only users who may run code here should be able to write to it.
    """
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(folder.resolve()), "TRITON_CACHE_DIR": str(folder.resolve() / "triton")}
    before = {name: os.environ.get(name) for name in caches}
    os.environ.update(caches)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


@dataclass
class Step:
    """Takes one training step at each call; `begin` starts an epoch.

    `images` are uint8 (n, 3, size, size) on the rank's device, `share` is this rank's part of each global batch.
    `compiler` is a backend of torch.compile, or None; a step that cannot be compiled runs uncompiled, and `listener`
    receives the reason.
    """

    cell: Cell
    method: SelfSupervised
    training: Training
    images: Tensor
    share: slice
    world: World
    listener: Listener
    compiler: str | None
    run: Work = field(init=False)
    """Takes one step, captured or not."""
    compute: Compute | None = None
    """Images, tables and weights -> terms of the loss; None until the first `begin`."""
    now: Tables = field(init=False)
    weights: Mapping[str, Tensor] = field(init=False)
    gradients: Gradients = field(init=False)

    def __post_init__(self) -> None:
        device, weights = self.world.device, self.method.weights(self.cell.networks)
        self.weights = {name: torch.tensor(value, device=device) for name, value in weights.items()}
        self.gradients = Gradients([p for p in self.training.networks.parameters() if p.requires_grad], self.world)
        self.run = self._in_parts(repeated)

    def begin(self) -> None:
        """Fill the tables for the epoch and step that the training has reached; the first call compiles the step.

        At least one step of the epoch must be left, for the compiled step is tried on it.
        """
        drawn = tables(self.cell, self.images, self.share, self.training.epoch, self.training.step)
        if self.compute is None:
            self.now = drawn
            self.compute, facts = forward_pass(self)
            self._tell(facts | {"captured": False})
        else:
            self.now.take(drawn)

    def __call__(self) -> None:
        """Take the next step of the epoch, and add its terms to the training's sums."""
        self.run()
        self.training.step += 1

    def release(self) -> None:
        """Drop the captured graphs, which hold all memory that they use."""
        self.run = self._in_parts(None)

    def _in_parts(self, repeat: Repeat | None) -> Work:
        """Return a function that takes one step, whose parts `repeat` captures where it can.

        Communication between ranks is not captured: this was never tried on several GPUs, and a captured exchange that
        hangs looks like one that waits. So the exchange of gradients divides the step in two, and if a method's loss
        communicates, the first part is not captured.
        """

        def part(work: Callable[[], None]) -> Work:
            if repeat is None:
                return work
            return repeat(work, self._state, self.world.device, self._captured, plain_calls=PLAIN_STEPS)

        def whole() -> None:
            self._differentiate()
            self._update()

        if self.world.size == 1:
            return part(whole)
        first = self._differentiate if self.method.exchanges else part(self._differentiate)
        then = part(self._update)

        def in_two() -> None:
            first()
            self.gradients.exchange()
            then()

        return in_two

    def _differentiate(self) -> None:
        """Compute the terms of the next step, add them to the sums, and give every parameter its gradient."""
        self.gradients.clear()
        assert self.compute is not None, "begin an epoch first"
        terms = self.compute(self.images, self.now, self.weights)
        for name, value in terms.items():
            if value.ndim > 0:  # of a loss or method from outside this package
                what = f"{self.cell.method.name} computed the term {name!r} of shape {tuple(value.shape)}"
                raise ConfigError(f"{what}: return a scalar")
        self.gradients.of(terms["loss"])
        sums = self.training.sums
        for name, value in terms.items():
            if name not in sums:
                sums[name] = torch.zeros((), dtype=torch.float64, device=self.images.device)
            sums[name] += value.detach().double()  # in place: a captured step adds to these same tensors

    def _update(self) -> None:
        """Update the parameters by their gradients, and count the step."""
        optimizer = self.training.optimizer
        capturable(optimizer)
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(self.now.rates.index_select(0, self.now.position)[0])
            else:
                group["lr"] = self.now.rates[self.training.step].item()
        optimizer.step()
        self.now.position.add_(1)

    def _tell(self, facts: Mapping[str, Any]) -> None:
        if self.world.first:
            self.listener.facts(facts)

    def _state(self) -> list[Tensor]:
        """Return every tensor that a step passes on to the next one, or the first part of a step to the second."""
        training, gradients = self.training, self.gradients.buffer
        moments = [value for state in training.optimizer.state.values() for value in state.values()]
        passed = [*training.networks.state_dict().values(), *moments, *training.sums.values(), self.now.position]
        return passed if gradients is None else [*passed, gradients]

    def _captured(self, reason: str | None) -> None:
        if reason is None:
            self._tell({"captured": True})
        elif self.world.first:
            self.listener.event("not_captured", reason)


# ---------------------------------------------------------------------------------- forward and backward


def forward_pass(step: Step) -> tuple[Compute, dict[str, Any]]:
    """Return the function that computes the terms of the loss at the tables' position, and facts about how it does."""
    if step.compiler is None:
        return _written_out(step, None), {"compiled": False}
    began = time.perf_counter()
    plans: tuple[Plan | None, ...] = (None, "batched") if step.images.is_cuda else (None,)
    for plan in plans:  # a step that fails with the kernel for views may work without it
        # Dynamo silently stops compiling after a few functions from one line of code, and every cell makes one there.
        torch.compiler.reset()
        compiled: Compute = torch.compile(
            _written_out(step, plan), backend=step.compiler, dynamic=False, fullgraph=True
        )
        reason = _fails(compiled, step)
        # All ranks must agree: if they ran different code, they could wait for each other for ever.
        if not step.world.any(reason is not None):
            seconds, views = time.perf_counter() - began, plan or plan_for(step.images, compiling=True)
            return compiled, {"compiled": True, "compile_seconds": round(seconds, 3), "views": views}
        if step.world.first:
            kind, instead = ("not_compiled", "so training runs uncompiled")
            if plan != plans[-1]:
                kind, instead = "no_kernel", "so it is tried again without the kernel for views"
            step.listener.event(kind, f"torch.compile failed, {instead}: {reason or 'it failed on another rank'}")
    return _written_out(step, None), {"compiled": False}


def _written_out(step: Step, plan: Plan | None) -> Compute:
    """Return the forward pass, uncompiled; views are rendered by `plan`, or by the plan that suits the images."""
    cell, method, networks, world = step.cell, step.method, step.training.networks, step.world
    narrow = torch.autocast(world.device.type, torch.bfloat16, enabled=cell.precision == "bf16")
    own, layout = step.share.stop - step.share.start, torch.channels_last

    def compute(images: Tensor, now: Tables, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        here = now.position * own + torch.arange(own, device=images.device)
        shown = images.index_select(0, now.rows.index_select(0, here))
        clean = unit_interval(shown).contiguous(memory_format=layout)
        view1 = view2 = clean
        if method.augments:
            view1, view2 = (
                render(shown, view, cell.views, rows=here, plan=plan, memory_format=layout) for view in now.views
            )
        with narrow:
            return method.forward(networks, clean, view1, view2, weights, world)

    return compute


def _fails(compute: Compute, step: Step) -> str | None:
    """Try the forward and backward pass of a step without lasting effect; return why they fail, or None."""
    try:
        with warnings.catch_warnings():
            # A warning of the compiler is no failure, even if warnings are errors.
            warnings.simplefilter("ignore")
            compute(step.images, step.now, step.weights)["loss"].backward()
    except torch.OutOfMemoryError:
        raise  # it would also be raised uncompiled
    except Exception as error:
        # The first line may only name the backend, with the error in the next.
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
        return lines[0].strip() if lines else type(error).__name__
    finally:
        step.gradients.clear()
    return None
