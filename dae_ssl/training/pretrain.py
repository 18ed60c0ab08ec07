"""The training loop, and only the loop."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dae_ssl.config import Cell, require
from dae_ssl.distributed import World
from dae_ssl.replay import own_stream
from dae_ssl.training.checkpoint import States, Training
from dae_ssl.training.methods.base import SelfSupervised
from dae_ssl.training.monitor import collapse_signs, evenly, is_looked_at
from dae_ssl.training.step import Step, learning_rate

SAVE_SECONDS = 30.0
AGREE_EVERY_STEPS = 10
MONITORED_IMAGES = 512


class Interrupted(Exception):
    """Training was asked to stop and has saved its state."""


class Diverged(ArithmeticError):
    """A term of the loss became infinite or not a number."""


class Watch(Protocol):
    """Receives what the loop reports, and can stop it; the first rank calls all methods, the others only `stop`."""

    def log(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Receive the terms of an epoch; `epoch` counts the finished epochs, so the first one is 1."""

    def event(self, kind: str, text: str) -> None:
        """Receive an event and the line that describes it."""

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Receive facts for the commit record: whether steps are compiled and captured, and the seconds it took."""

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Receive, after each step, how many of the epoch's steps are finished."""

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None:
        """Keep the networks after an epoch that the settings name for it."""

    def stop(self) -> bool:
        """Return whether this rank was asked to stop."""


def pretrain(
    cell: Cell,
    images: Tensor,
    world: World,
    states: States,
    watch: Watch,
    *,
    save_seconds: float = SAVE_SECONDS,
    compiler: str = "auto",
) -> nn.ModuleDict:
    """Train the cell's networks, from the newest good state if there is one, and return them.

    images: uint8 (n, 3, 32, 32) on the rank's device. Ranks share each global batch and compute what one rank would.
    The state is saved every `save_seconds`. `compiler` is a backend of torch.compile, `none`, or `auto`, which is
    `inductor` on a GPU and `none` on a CPU, where compiling gains nothing.
    Raises Interrupted when `watch.stop` asks for it and the state is saved, Diverged when a term is no longer finite
    (the last good state stays), ConfigError if the batch is larger than the data or the ranks do not divide it evenly.
    """
    method, settings = cell.method, cell.optimisation
    assert isinstance(method, SelfSupervised)
    share, steps = world.share(settings.batch_size), len(images) // settings.batch_size
    require(steps > 0, "optimisation.batch_size", settings.batch_size, f"at most the {len(images)} images")
    with own_stream(world.device):
        training = start(cell, method, world)
        state = world.broadcast(states.load(lambda text: watch.event("damaged", text)) if world.first else None)
        if state is not None:
            training.restore(state, world.device)
            if world.first:
                watch.event("resumed", f"after epoch {training.epoch}, step {training.step} of {steps}")
        step = Step(cell, method, training, images, share, world, watch, _backend(compiler, world.device))
        keeper = _Keeper(training, world, states, watch, steps, save_seconds)
        try:
            while training.epoch < settings.epochs:
                _epoch(cell, images, training, step, keeper)
        finally:
            step.release()
    return training.networks


def _epoch(cell: Cell, images: Tensor, training: Training, step: Step, keeper: "_Keeper") -> None:
    """Take the remaining steps of the current epoch, then report its terms and keep its networks if asked for."""
    settings, watch, began, left = cell.optimisation, keeper.watch, time.perf_counter(), keeper.steps - training.step
    if left:
        step.begin()
    first_step = time.perf_counter()
    while training.step < keeper.steps:
        step()
        keeper.after_step()
    terms = keeper.mean_terms()  # which waits for the device
    last_step = time.perf_counter()
    training.next_epoch()
    if not keeper.world.first:
        return
    if training.epoch in settings.kept_epochs():
        watch.keep(training.epoch, training.networks)
    terms |= _looked_at(cell, training, images, keeper.steps)
    seconds = time.perf_counter() - began
    if left:  # it is 0 if the run was stopped after the last step of the epoch
        seen = left * settings.batch_size
        terms |= {"images_per_second": seen / seconds, "epoch_seconds": seconds, "step_seconds": last_step - first_step}
    watch.log(training.epoch, terms)


def _backend(compiler: str, device: torch.device) -> str | None:
    if compiler == "auto":
        return "inductor" if device.type == "cuda" else None
    return None if compiler == "none" else compiler


def _looked_at(cell: Cell, training: Training, images: Tensor, steps: int) -> dict[str, float]:
    """Return what an epoch's log holds in addition to the terms of the loss: signs of collapse, the learning rate."""
    settings, epoch = cell.optimisation, training.epoch
    signs = {}
    if is_looked_at(epoch, settings):
        signs = collapse_signs(training.networks, evenly(images, MONITORED_IMAGES))
    return signs | {"learning_rate": learning_rate(settings, epoch * steps - 1, settings.epochs * steps)}


def start(cell: Cell, method: SelfSupervised, world: World) -> Training:
    """Return the state before the first step, which is the same on every rank, as it depends only on the seed."""
    networks = method.networks(cell.networks, cell.seed).to(world.device).to(memory_format=torch.channels_last)
    rate: Any = cell.optimisation.learning_rate
    if world.device.type == "cuda":  # a captured step can only change a tensor on the device
        rate = torch.tensor(rate, device=world.device)
    return Training(networks, torch.optim.Adam(networks.parameters(), lr=rate, fused=True))


@dataclass
class _Keeper:
    """Saves the state every `save_seconds` and before stopping, but never one with a term that is not finite."""

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
        # Ranks must decide alike, which costs communication: a single rank asks at every step, several at every tenth.
        if world.size > 1 and training.step % AGREE_EVERY_STEPS and training.step != self.steps:
            return
        stop = world.any(self.watch.stop())
        if stop or world.any(time.monotonic() - self.saved_at > self.save_seconds):
            sums = self.finite_sums()
            if world.first:
                # Every rank resumes from this state, so it must not hold the sums of the first rank alone.
                self.states.save(training.state() | {"sums": sums}, training.epoch * self.steps + training.step)
            self.saved_at = time.monotonic()
        if stop:
            world.barrier()
            raise Interrupted(
                f"stopped after epoch {training.epoch}, step {training.step} of {self.steps}; the state is saved"
            )

    def mean_terms(self) -> dict[str, float]:
        """Return the epoch's mean terms so far, over all ranks. Raises Diverged if one is not finite."""
        return {name: value.item() / self.training.step for name, value in self.finite_sums().items()}

    def finite_sums(self) -> dict[str, Tensor]:
        """Return each term's sum, averaged over the ranks. Raises Diverged if a sum or a weight is not finite."""
        training = self.training
        means = self.world.sum(torch.stack(list(training.sums.values()))) / self.world.size
        sums = dict(zip(training.sums, means, strict=True))
        # The last update may have spoilt the weights, which no loss has shown yet.
        largest = torch.stack([p.detach().abs().amax() for p in training.networks.parameters()]).amax()
        for name, value in (sums | {"the largest weight": largest}).items():
            if not math.isfinite(value):
                where = f"epoch {training.epoch + 1}, step {training.step} of {self.steps}"
                raise Diverged(
                    f"{name} became {value.item()} in {where}: lower optimisation.learning_rate or method.alpha; "
                    "the last good state is kept"
                )
        return sums
