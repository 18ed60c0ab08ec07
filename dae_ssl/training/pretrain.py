"""The training loop, and only the loop."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dae_ssl.config import Cell, Optimisation, require
from dae_ssl.distributed import World
from dae_ssl.training.checkpoint import States, Training
from dae_ssl.training.methods.base import SelfSupervised
from dae_ssl.training.monitor import collapse_signs, evenly
from dae_ssl.training.networks import unit_interval
from dae_ssl.training.views import Parameters, draw, permutation, render

SAVE_SECONDS = 30.0
AGREE_EVERY_STEPS = 10
MONITORED_IMAGES = 512


class Interrupted(Exception):
    """Training was asked to stop, and has saved its state."""


class Diverged(ArithmeticError):
    """A term of the loss became infinite or not a number."""


class Watch(Protocol):
    """What the loop tells, and asks, while it runs; called on the first rank only, but for `stop`."""

    def log(self, step: int, terms: Mapping[str, float]) -> None:
        """Take an epoch's figures; `step` counts finished epochs."""

    def event(self, kind: str, text: str) -> None:
        """Take something worth a line."""

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Take that a step is done."""

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None:
        """Keep the networks as they are after an epoch that was chosen for it."""

    def stop(self) -> bool:
        """Tell whether this rank was asked to stop."""


StepFunction = Callable[[Tensor, Parameters, Parameters], Mapping[str, Tensor]]


def pretrain(
    cell: Cell, images: Tensor, world: World, states: States, watch: Watch, *, save_seconds: float = SAVE_SECONDS
) -> nn.ModuleDict:
    """Train the cell's networks, from the newest good state if there is one, and return them.

    images: uint8 (n, 3, 32, 32) on the rank's device. Ranks share each global batch and compute what one rank would.
    The state is saved every `save_seconds`.
    Raises Interrupted once the state is saved after `watch.stop`, Diverged when a term is no longer finite (the last
    good state stays), ConfigError for a batch that the data or the ranks cannot give.
    """
    method, settings = cell.method, cell.optimisation
    assert isinstance(method, SelfSupervised)
    share, steps = world.share(settings.batch_size), len(images) // settings.batch_size
    require(steps > 0, "optimisation.batch_size", settings.batch_size, f"at most the {len(images)} images")
    training = start(cell, method, world)
    state = world.broadcast(states.load(lambda text: watch.event("damaged", text)) if world.first else None)
    if state is not None:
        training.restore(state, world.device)
        if world.first:
            watch.event("resumed", f"after epoch {training.epoch}, step {training.step} of {steps}")
    compute = step_function(cell, method, training.networks, world, watch, images[: share.stop - share.start])
    keeper = _Keeper(training, world, states, watch, steps, save_seconds)
    while training.epoch < settings.epochs:
        began, done_before = time.perf_counter(), training.step
        _finish_epoch(cell, images, training, share, compute, keeper)
        figures = keeper.mean_terms()
        seconds, seen = time.perf_counter() - began, (steps - done_before) * settings.batch_size
        training.epoch, training.step, training.sums = training.epoch + 1, 0, {}
        if world.first:
            figures |= collapse_signs(training.networks, evenly(images, MONITORED_IMAGES))
            figures["learning_rate"] = learning_rate(settings, training.epoch * steps - 1, settings.epochs * steps)
            if seen:  # none where the run was stopped after the last step of an epoch
                figures |= {"images_per_second": seen / seconds, "epoch_seconds": seconds}
            watch.log(training.epoch, figures)
            if training.epoch in settings.kept_epochs():
                watch.keep(training.epoch, training.networks)
    return training.networks


def _finish_epoch(
    cell: Cell, images: Tensor, training: Training, share: slice, compute: StepFunction, keeper: "_Keeper"
) -> None:
    """Do the steps that the epoch under way still lacks."""
    settings, steps, epoch = cell.optimisation, keeper.steps, training.epoch
    order = permutation(len(images), seed=cell.seed, epoch=epoch, device=images.device)
    # Of the whole epoch at once: the numbers are the same, and a step launches none of their many small kernels.
    drawn = [
        draw(cell.views, seed=cell.seed, epoch=epoch, indices=order, view=number, size=images.shape[-1])
        for number in (1, 2)
    ]
    for step in range(training.step, steps):
        batch = slice(step * settings.batch_size + share.start, step * settings.batch_size + share.stop)
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(settings, epoch * steps + step, settings.epochs * steps)
        terms = compute(images.index_select(0, order[batch]), *(view[batch] for view in drawn))
        training.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        keeper.world.mean_gradients(training.networks.parameters())
        training.optimizer.step()
        for name, value in terms.items():
            training.sums[name] = training.sums.get(name, 0) + value.detach().double()
        training.step = step + 1
        keeper.after_step()


def start(cell: Cell, method: SelfSupervised, world: World) -> Training:
    """Return the state before the first step; it depends on the seed only, so every rank has the same."""
    networks = method.networks(cell.networks, cell.seed).to(world.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(networks.parameters(), lr=cell.optimisation.learning_rate, fused=True)
    return Training(networks, optimizer)


def learning_rate(settings: Optimisation, step: int, steps: int) -> float:
    """Return the rate of a step (counted from 0) out of all steps of the run: cosine to zero, or constant."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def step_function(
    cell: Cell, method: SelfSupervised, networks: nn.ModuleDict, world: World, watch: Watch, trial: Tensor
) -> StepFunction:
    """Return uint8 images and their drawn parameters -> terms of the loss; compiled on CUDA.

    It is tried on `trial`, uint8 images as many as a rank's batch; where that fails the step runs as it is, and the
    reason is told.
    """
    narrow = torch.autocast(world.device.type, torch.bfloat16, enabled=cell.precision == "bf16")

    def compute(images: Tensor, first: Parameters, second: Parameters) -> Mapping[str, Tensor]:
        clean = unit_interval(images).contiguous(memory_format=torch.channels_last)
        view1, view2 = (
            (render(images, drawn, cell.views) for drawn in (first, second)) if method.augments else (clean, clean)
        )
        with narrow:
            return method.forward(networks, clean, view1, view2, world)

    if world.device.type != "cuda":
        return compute
    compiled = torch.compile(compute, dynamic=False)
    reason = _compiles(compiled, cell, networks, trial)
    # Ranks that run different code could wait for each other for ever.
    if not world.any(reason is not None):
        return compiled
    watch.event("not_compiled", f"torch.compile failed, running uncompiled: {reason or 'on another rank'}")
    return compute


def _compiles(compiled: StepFunction, cell: Cell, networks: nn.ModuleDict, trial: Tensor) -> str | None:
    """Return why the step cannot be compiled, forward or backward, or None after both have run once on `trial`."""
    rows = torch.arange(len(trial), device=trial.device)
    views = [draw(cell.views, seed=0, epoch=0, indices=rows, view=view, size=trial.shape[-1]) for view in (1, 2)]
    try:
        compiled(trial, *views)["loss"].backward()
    except Exception as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    finally:
        networks.zero_grad(set_to_none=True)
    return None


@dataclass
class _Keeper:
    """Saves the state when it is time or when asked to stop, but never one with terms that are not finite."""

    training: Training
    world: World
    states: States
    watch: Watch
    steps: int
    save_seconds: float
    saved_at: float = 0.0

    def __post_init__(self) -> None:
        self.saved_at = time.monotonic()

    def after_step(self) -> None:
        training, world = self.training, self.world
        if world.first:
            self.watch.progress(training.epoch, training.step, self.steps)
        # Ranks must decide alike, and asking them costs an exchange: alone every step, together every few.
        if world.size > 1 and training.step % AGREE_EVERY_STEPS and training.step != self.steps:
            return
        stop = world.any(self.watch.stop())
        if stop or world.any(time.monotonic() - self.saved_at > self.save_seconds):
            sums = self.finite_sums()
            if world.first:
                # Every rank goes on from this state, so it must not hold the first rank's own sums.
                self.states.save(training.state() | {"sums": sums}, training.epoch * self.steps + training.step)
            self.saved_at = time.monotonic()
        if stop:
            world.barrier()
            raise Interrupted(
                f"stopped after epoch {training.epoch}, step {training.step} of {self.steps}; state saved"
            )

    def mean_terms(self) -> dict[str, float]:
        """Return the epoch's terms so far, over all ranks. Raises Diverged if one is not finite."""
        return {name: value.item() / self.training.step for name, value in self.finite_sums().items()}

    def finite_sums(self) -> dict[str, Tensor]:
        """Return the mean over ranks of their sums of each term. Raises Diverged if one, or a weight, is not finite."""
        training = self.training
        means = self.world.sum(torch.stack(list(training.sums.values()))) / self.world.size
        sums = dict(zip(training.sums, means, strict=True))
        # The last update may have spoilt the weights without any loss having seen it yet.
        largest = torch.stack([p.detach().abs().amax() for p in training.networks.parameters()]).amax()
        for name, value in (sums | {"the largest weight": largest}).items():
            if not math.isfinite(value):
                where = f"epoch {training.epoch + 1}, step {training.step} of {self.steps}"
                raise Diverged(
                    f"{name} became {value.item()} in {where}: lower optimisation.learning_rate or method.alpha; "
                    "the last good state is kept"
                )
        return sums
