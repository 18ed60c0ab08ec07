"""One training step: this rank's share of a global batch -> updated networks.

On a GPU, forward and backward pass are compiled, and the step with its update is captured as a CUDA graph, as two with
the exchange of gradients between them where there are several ranks: the networks are small and have many kernels to
launch. For a graph to be replayed, what steps read lies in tables that are filled once an epoch, and a counter on the
device says which step comes next. On a CPU the same functions are called as they are.
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

from dae_ssl.config import Cell, Optimisation
from dae_ssl.distributed import Gradients, World
from dae_ssl.replay import Work, capturable, repeated
from dae_ssl.training.checkpoint import Training
from dae_ssl.training.methods.base import SelfSupervised
from dae_ssl.training.networks import unit_interval
from dae_ssl.training.views import Parameters, Plan, draw, permutation, plan_for, render

PLAIN_STEPS = 3
"""Steps taken kernel by kernel before one is captured, in which compiler and libraries set up what they keep."""

Repeat = Callable[..., Work]
"""As `replay.repeated`."""
Compute = Callable[[Tensor, "Tables", Mapping[str, Tensor]], Mapping[str, Tensor]]


class Listener(Protocol):
    """Whom the step tells how it is computed."""

    def event(self, kind: str, text: str) -> None:
        """Take something worth a line."""

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Take what a commit record is to say of how the step was computed."""


@dataclass(frozen=True)
class Tables:
    """What the steps of an epoch read, on the device: b images of this rank in each, one step after another.

    The memory is the same in every epoch.
    """

    rows: Tensor
    """int64 (steps x b,), images in the order in which they are seen."""
    views: tuple[Parameters, Parameters]
    """Both views of each of them."""
    rates: Tensor
    """float64 (steps,), learning rates."""
    position: Tensor
    """int64 (1,), the step that comes next."""

    def take(self, other: "Tables") -> None:
        """Take another epoch's contents."""
        for mine, theirs in zip(self._tensors(), other._tensors(), strict=True):
            mine.copy_(theirs)

    def _tensors(self) -> Iterator[Tensor]:
        yield from (self.rows, self.rates, self.position)
        for view in self.views:
            yield from (getattr(view, part.name) for part in dataclasses.fields(view))


def tables(cell: Cell, images: Tensor, share: slice, epoch: int, step: int) -> Tables:
    """Return the tables of an epoch from a step on, on the device of the images, uint8 (n, 3, size, size).

    All views of an epoch are drawn at once: the numbers are the same, and a step launches none of the small kernels.
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
    """Have torch.compile keep what it makes in a folder while the block runs.

    The next cell, and the next process on another machine, then compile nothing that was compiled before. What lies
    there is code that will be run, as the snapshots in a store are: it is to be written by those alone who may run it.
    """
    places = {"TORCHINDUCTOR_CACHE_DIR": str(folder.resolve()), "TRITON_CACHE_DIR": str(folder.resolve() / "triton")}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


@dataclass
class Step:
    """Takes one step after another; `begin` an epoch first.

    `images` are uint8 (n, 3, size, size) on the rank's device, `share` is this rank's part of each global batch.
    `compiler` is a backend of torch.compile, or none; what cannot be compiled runs as it is, and the reason is told.
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
    """Takes a step."""
    compute: Compute | None = None
    """Images, tables and weights -> terms of the loss, once an epoch has begun."""
    now: Tables = field(init=False)
    weights: Mapping[str, Tensor] = field(init=False)
    gradients: Gradients = field(init=False)

    def __post_init__(self) -> None:
        device, weights = self.world.device, self.method.weights(self.cell.networks)
        self.weights = {name: torch.tensor(value, device=device) for name, value in weights.items()}
        self.gradients = Gradients([p for p in self.training.networks.parameters() if p.requires_grad], self.world)
        self.run = self._in_parts(repeated)

    def begin(self) -> None:
        """Fill the tables for the epoch and the step at which the training is; compile, before the first of all.

        That step must be one of the epoch's: where none is left, there is nothing to try the compiled step on.
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
        """Let go of captured work, which holds all memory that it works in."""
        self.run = self._in_parts(None)

    def _in_parts(self, repeat: Repeat | None) -> Work:
        """Return what takes a step, its parts captured by `repeat` where they can be.

        What ranks exchange stays out of it: a captured exchange was never tried on several GPUs, and one that hangs
        cannot be told from one that waits. So the exchange of gradients parts the step in two, and the first part of a
        method whose loss exchanges something is not captured.
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
        self.gradients.of(terms["loss"])
        sums = self.training.sums
        for name, value in terms.items():
            if name not in sums:
                sums[name] = torch.zeros((), dtype=torch.float64, device=self.images.device)
            sums[name] += value.detach().double()  # in place: a captured step adds to these very tensors

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
        """Return every tensor that a step leaves to the next one, and one part of a step to the other."""
        training, gradients = self.training, self.gradients.buffer
        moments = [value for of in training.optimizer.state.values() for value in of.values()]
        left = [*training.networks.state_dict().values(), *moments, *training.sums.values(), self.now.position]
        return left if gradients is None else [*left, gradients]

    def _captured(self, reason: str | None) -> None:
        if reason is None:
            self._tell({"captured": True})
        elif self.world.first:
            self.listener.event("not_captured", reason)


# ---------------------------------------------------------------------------------- forward and backward


def forward_pass(step: Step) -> tuple[Compute, dict[str, Any]]:
    """Return images, tables and weights -> the terms of the loss at the table's position, and how that is computed."""
    if step.compiler is None:
        return _written_out(step, None), {"compiled": False}
    began = time.perf_counter()
    plans: tuple[Plan | None, ...] = (None, "batched") if step.images.is_cuda else (None,)
    for plan in plans:  # what fails with the kernel for views may do without it
        # Dynamo stops compiling, without a word, after a few functions from one place: every cell has one of its own.
        torch.compiler.reset()
        compiled: Compute = torch.compile(
            _written_out(step, plan), backend=step.compiler, dynamic=False, fullgraph=True
        )
        reason = _fails(compiled, step)
        # Ranks that run different code could wait for each other for ever.
        if not step.world.any(reason is not None):
            seconds, views = time.perf_counter() - began, plan or plan_for(step.images, compiling=True)
            return compiled, {"compiled": True, "compile_seconds": round(seconds, 3), "views": views}
        if step.world.first:
            kind, instead = ("not_compiled", "running uncompiled")
            if plan != plans[-1]:
                kind, instead = "no_kernel", "trying without the kernel for views"
            step.listener.event(kind, f"torch.compile failed, {instead}: {reason or 'on another rank'}")
    return _written_out(step, None), {"compiled": False}


def _written_out(step: Step, plan: Plan | None) -> Compute:
    """Return the forward pass as it is written, views rendered by a plan, or by the one that suits the images."""
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
    """Return why a step cannot be computed forward or backward, or None after both were, with no effect."""
    try:
        with warnings.catch_warnings():
            # What the compiler has to say of how it compiles is no failure, even where warnings are errors.
            warnings.simplefilter("ignore")
            compute(step.images, step.now, step.weights)["loss"].backward()
    except torch.OutOfMemoryError:
        raise  # as it would uncompiled
    except Exception as error:
        # The first line may only name the backend, and the error stand behind it.
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
        return lines[0].strip() if lines else type(error).__name__
    finally:
        step.gradients.clear()
    return None
