"""The training loop: what it logs, keeps and saves, when it stops, and that stopping changes nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dae_ssl.config import Cell, Optimisation, Views, cell
from dae_ssl.distributed import World
from dae_ssl.training import step as steps_of
from dae_ssl.training.checkpoint import States, deserialise, serialise
from dae_ssl.training.methods.siamese import DenoisingAutoencoder
from dae_ssl.training.pretrain import Diverged, Interrupted, pretrain
from dae_ssl.training.step import learning_rate
from dae_ssl.training.views import Parameters

ALONE = World(0, 1, torch.device("cpu"))
TINY = cell(
    method={"name": "dae", "embedding": "l2", "alpha": 1},
    optimisation={"epochs": 2, "batch_size": 4, "learning_rate": 1e-3},
)
"""Two epochs of three steps on `images()`."""


def images(n: int = 13) -> Tensor:
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@dataclass
class Recorder:
    """A watch that notes all it is told, and asks to stop after some steps."""

    stop_after: float = math.inf
    logged: dict[int, dict[str, float]] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    kept: dict[int, bytes] = field(default_factory=dict)
    how: dict[str, object] = field(default_factory=dict)

    def log(self, epoch: int, terms: Mapping[str, float]) -> None:
        self.logged[epoch] = dict(terms)

    def event(self, kind: str, text: str) -> None:
        self.events.append((kind, text))

    def facts(self, facts: Mapping[str, object]) -> None:
        self.how.update(facts)

    def progress(self, epoch: int, step: int, steps: int) -> None:
        self.steps.append((epoch, step, steps))

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None:
        self.kept[epoch] = serialise(networks.state_dict())

    def stop(self) -> bool:
        return len(self.steps) >= self.stop_after


def optimised(base: Cell = TINY, **changes: object) -> Cell:
    return replace(base, optimisation=replace(base.optimisation, **changes))


def train(
    cell: Cell, folder: Path, watch: Recorder | None = None, shown: Tensor | None = None, save_seconds: float = 30.0
) -> bytes:
    seen = images() if shown is None else shown
    networks = pretrain(cell, seen, ALONE, States(folder), watch or Recorder(), save_seconds=save_seconds)
    return serialise(networks.state_dict())


def reproducible(logged: Mapping[int, Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """Return the logged figures without those that tell the time."""
    clock = ("images_per_second", "epoch_seconds", "step_seconds")
    return {epoch: {k: v for k, v in figures.items() if k not in clock} for epoch, figures in logged.items()}


@pytest.mark.parametrize("steps", [1, 7, 300])
def test_cosine_schedule_falls_from_the_rate_to_almost_zero_and_is_half_in_the_middle(steps: int) -> None:
    settings = Optimisation(learning_rate=0.1)
    rates = [learning_rate(settings, step, steps) for step in range(steps)]
    assert rates[0] == 0.1
    assert sorted(rates, reverse=True) == rates
    assert rates[-1] > 0
    assert learning_rate(settings, steps, steps) == pytest.approx(0, abs=1e-17)
    assert learning_rate(settings, steps, 2 * steps) == pytest.approx(0.05)


def test_cosine_schedule_is_that_of_torch() -> None:
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert learning_rate(Optimisation(learning_rate=0.1), step, 20) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_constant_schedule_stays() -> None:
    settings = Optimisation(learning_rate=0.1, schedule="constant")
    assert {learning_rate(settings, step, 20) for step in range(20)} == {0.1}


def test_every_step_is_taken_with_the_rate_of_its_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    take_step = torch.optim.Adam.step

    def noting(optimizer: torch.optim.Adam) -> None:
        used.append(optimizer.param_groups[0]["lr"])
        take_step(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    watch = Recorder()
    train(TINY, tmp_path, watch)
    assert used == [pytest.approx(1e-3 * (1 + math.cos(math.pi * step / 6)) / 2) for step in range(6)]
    assert [watch.logged[epoch]["learning_rate"] for epoch in (1, 2)] == [used[2], used[5]]


def test_an_epoch_logs_its_terms_its_speed_and_the_signs_of_collapse(tmp_path: Path) -> None:
    watch = Recorder()
    train(TINY, tmp_path, watch)
    assert set(watch.logged) == {1, 2}
    signs = {"embedding_std", "embedding_effective_rank", "representation_effective_rank"}
    clock = {"images_per_second", "epoch_seconds", "step_seconds"}
    told = {"loss", "reconstruction", "embedding", "learning_rate"} | clock | signs
    for figures in watch.logged.values():
        assert set(figures) == told
        assert all(math.isfinite(value) for value in figures.values())
        assert figures["images_per_second"] == pytest.approx(12 / figures["epoch_seconds"])
        assert 0 < figures["step_seconds"] < figures["epoch_seconds"]
        assert figures["loss"] == pytest.approx(figures["reconstruction"] + figures["embedding"] / 64, rel=1e-6)
    assert watch.steps == [(epoch, step, 3) for epoch in (0, 1) for step in (1, 2, 3)]


def test_each_chosen_epoch_and_the_last_are_kept_as_they_were(tmp_path: Path) -> None:
    watch = Recorder()
    whole = train(optimised(epochs=3, batch_size=12, checkpoints=(2, 7)), tmp_path, watch)
    assert set(watch.kept) == {2, 3}
    assert watch.kept[2] != watch.kept[3] == whole


def test_loss_falls_on_a_tiny_set(tmp_path: Path) -> None:
    watch = Recorder()
    shown = (images(4).float().mean((2, 3), keepdim=True) / 4).to(torch.uint8).expand(4, 3, 32, 32).contiguous()
    settings = optimised(epochs=25, batch_size=4, learning_rate=2e-3, schedule="constant")
    train(replace(settings, views=Views(jitter=0)), tmp_path, watch, shown)
    assert watch.logged[25]["loss"] < 0.2 * watch.logged[1]["loss"]


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"optimisation.batch_size=14: choose at most the 13 images"):
        train(optimised(batch_size=14), tmp_path)


def test_a_batch_that_the_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size=4: choose a multiple of the 3 ranks"):
        pretrain(TINY, images(), World(0, 3, torch.device("cpu")), States(tmp_path), Recorder())


def views_by_epoch(
    settings: Views, epochs: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[int, dict[tuple[int, int], list[float]]]:
    """Return what the loop drew in each epoch, by (image, view)."""
    drawn: dict[int, dict[tuple[int, int], list[float]]] = {epoch: {} for epoch in range(epochs)}

    def noting(given: Views, *, epoch: int, indices: Tensor, view: int, **others: int) -> Parameters:
        parameters = draw(given, epoch=epoch, indices=indices, view=view, **others)
        for row, image in enumerate(indices.tolist()):
            assert (image, view) not in drawn[epoch], "an image was seen twice in an epoch"
            drawn[epoch][image, view] = [getattr(parameters, name)[row].item() for name in ("top", "hue", "contrast")]
        return parameters

    draw = steps_of.draw
    monkeypatch.setattr(steps_of, "draw", noting)
    train(replace(optimised(epochs=epochs), views=settings), folder, None, images(12))
    return drawn


def test_frozen_views_are_the_same_in_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = views_by_epoch(Views(frozen=True), 2, tmp_path, monkeypatch).values()
    assert first == second
    assert len(first) == 24
    assert list(first) != list(second), "the order of the images is not drawn anew"
    assert len({tuple(view) for view in first.values()}) == 24, "two views are alike"


def test_fresh_views_differ_in_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = views_by_epoch(Views(), 2, tmp_path, monkeypatch).values()
    assert set(first) == set(second)
    assert all(first[seen] != second[seen] for seen in first)


def test_a_run_interrupted_at_every_step_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    uninterrupted = Recorder()
    whole = train(TINY, tmp_path / "whole", uninterrupted)
    assert not (tmp_path / "whole").exists(), "a short run has no need to save"
    logged, kept = {}, {}
    for attempt in range(6):
        watch = Recorder(stop_after=1)
        epoch, step = divmod(attempt, 3)
        with pytest.raises(
            Interrupted, match=rf"^stopped after epoch {epoch}, step {step + 1} of 3; the state is saved$"
        ):
            train(TINY, tmp_path / "parts", watch)
        assert watch.steps == [(epoch, step + 1, 3)]
        assert [kind for kind, _ in watch.events] == ["resumed"] * (attempt > 0)
        logged |= watch.logged
        kept |= watch.kept
    last = Recorder()
    assert train(TINY, tmp_path / "parts", last) == whole
    assert last.steps == []
    assert reproducible(logged | last.logged) == reproducible(uninterrupted.logged)
    assert kept | last.kept == uninterrupted.kept


def test_a_resumed_run_says_from_where(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(TINY, tmp_path, Recorder(stop_after=4))
    watch = Recorder()
    train(TINY, tmp_path, watch)
    assert watch.events == [("resumed", "after epoch 1, step 1 of 3")]


def test_a_run_resumed_past_a_damaged_state_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(TINY, tmp_path / "whole")
    for stop_after in (2, 1):
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "parts", Recorder(stop_after=stop_after))
    newest = States(tmp_path / "parts").newest_first()[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    watch = Recorder()
    assert train(TINY, tmp_path / "parts", watch) == whole
    (damaged, complaint), resumed = watch.events
    assert (damaged, str(newest) in complaint) == ("damaged", True)
    assert resumed == ("resumed", "after epoch 0, step 2 of 3")


def test_the_state_is_saved_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(States, "save", lambda _states, _state, step: saved.append(step))
    train(TINY, tmp_path)
    assert saved == []
    train(TINY, tmp_path, save_seconds=-1.0)
    assert saved == [1, 2, 3, 4, 5, 6]


@dataclass(frozen=True, kw_only=True)
class Failing(DenoisingAutoencoder):
    """A method whose embedding term is not finite from some step on; it has no name, so it is not registered."""

    steps_before: int
    value: float
    seen: list[int] = field(default_factory=list, compare=False)

    def forward(self, *given: object) -> Mapping[str, Tensor]:
        terms = dict(super().forward(*given))
        self.seen.append(1)
        return terms | {"embedding": terms["embedding"] + (self.value if len(self.seen) > self.steps_before else 0)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_term_that_is_not_finite_is_named_and_the_last_good_state_stays(value: float, tmp_path: Path) -> None:
    failing = replace(TINY, method=Failing(embedding="l2", alpha=1.0, steps_before=4, value=value))
    watch = Recorder()
    with pytest.raises(Diverged, match=rf"^embedding became {value} in epoch 2, step 2 of 3: lower") as raised:
        train(failing, tmp_path, watch, save_seconds=-1.0)
    assert "optimisation.learning_rate" in str(raised.value)
    state = deserialise(States(tmp_path).newest_first()[0].read_bytes())
    assert (state["epoch"], state["step"]) == (1, 1)
    assert all(weight.isfinite().all() for weight in state["networks"].values())
    assert set(watch.logged) == {1}


def test_divergence_is_noticed_at_the_end_of_an_epoch_even_when_no_state_is_due(tmp_path: Path) -> None:
    failing = replace(TINY, method=Failing(embedding="l2", alpha=1.0, steps_before=1, value=math.nan))
    watch = Recorder()
    with pytest.raises(Diverged, match="embedding became nan in epoch 1, step 3 of 3"):
        train(failing, tmp_path, watch)
    assert (watch.logged, watch.kept, list(tmp_path.iterdir())) == ({}, {}, [])


def test_a_request_to_stop_does_not_save_a_diverged_state(tmp_path: Path) -> None:
    failing = replace(TINY, method=Failing(embedding="l2", alpha=1.0, steps_before=0, value=math.nan))
    with pytest.raises(Diverged, match="in epoch 1, step 1 of 3"):
        train(failing, tmp_path, Recorder(stop_after=1))
    assert list(tmp_path.iterdir()) == []


def test_an_enormous_learning_rate_diverges(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"(loss|reconstruction|embedding) became (nan|inf)"):
        train(optimised(learning_rate=1e30), tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_networks_and_terms_are_float32_whatever_the_precision(precision: str, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(replace(TINY, precision=precision), tmp_path, Recorder(stop_after=1))
    state = deserialise(States(tmp_path).newest_first()[0].read_bytes())
    assert {weight.dtype for weight in state["networks"].values()} == {torch.float32}
    assert {value.dtype for value in state["sums"].values()} == {torch.float64}


def test_bf16_trains_other_weights_than_fp32_but_near_ones(tmp_path: Path) -> None:
    logged = []
    for precision in ("fp32", "bf16"):
        watch = Recorder()
        train(replace(optimised(epochs=1), precision=precision), tmp_path, watch)
        logged.append(watch.logged[1]["loss"])
    assert logged[0] != logged[1]
    assert logged[1] == pytest.approx(logged[0], rel=1e-2)
