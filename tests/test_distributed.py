"""Several ranks compute what one computes: the batch is global, for every method and every loss."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell, Method
from dae_ssl.distributed import Gradients, World, gather_rows, world
from dae_ssl.training import pretrain as loop
from dae_ssl.training import step
from dae_ssl.training.checkpoint import States, serialise
from dae_ssl.training.losses import CONTRAST, EMBEDDING, nt_xent
from dae_ssl.training.methods.base import SelfSupervised
from dae_ssl.training.pretrain import Interrupted, pretrain
from tests.taped import taped

BATCH, STEPS = 8, 3
RANKS = (2, 4)


def cases() -> dict[str, Cell]:
    """Return a cell for every method that trains, and for every loss that a method can take."""
    methods = {name: {"name": name} for name, kind in Method.registry.items() if kind.trains}
    methods |= {f"dae {loss}": {"name": "dae", "embedding": loss, "alpha": 10} for loss in EMBEDDING}
    methods |= {f"simclr {loss}": {"name": "simclr", "contrast": loss} for loss in CONTRAST}
    optimisation = {"epochs": 2, "batch_size": BATCH, "learning_rate": 1e-5}
    built = {name: config.cell(method=method, optimisation=optimisation) for name, method in methods.items()}
    return {name: cell for name, cell in built.items() if cell not in [built[n] for n in built if n < name]}


def images() -> Tensor:
    size = (BATCH * STEPS + 3, 3, 32, 32)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def embeddings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(8, 5, dtype=torch.double, generator=generator) for _ in range(2))
    return z1, z2


@dataclass
class Watch:
    """Asks to stop after some steps, from the rank that it is on; keeps what is logged."""

    stop_after: int | None
    done: int = 0
    logged: dict[int, dict[str, float]] | None = None
    how: dict[str, object] = field(default_factory=dict)

    def log(self, epoch: int, terms: Mapping[str, float]) -> None:
        self.logged = (self.logged or {}) | {epoch: dict(terms)}

    def event(self, kind: str, text: str) -> None: ...

    def facts(self, facts: Mapping[str, object]) -> None:
        self.how.update(facts)

    def progress(self, epoch: int, step: int, steps: int) -> None: ...

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None: ...

    def stop(self) -> bool:
        self.done += 1
        return self.done == self.stop_after


def train_an_epoch(cell: Cell, world: World, folder: Path) -> None:
    """Train to the last step of the first epoch in float64, and leave the whole training state in `folder`.

    In float32 a convolution of fewer images rounds differently, by which max-pooling chooses another of two pixels that
    are almost alike: a true difference of one part in a hundred, in which an error could hide.
    """
    asked = STEPS if world.size == 1 else 1  # several ranks are asked at the end of an epoch only
    networks, render, unit_interval = SelfSupervised.networks, step.render, step.unit_interval
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfSupervised, "networks", lambda *given: networks(*given).double())
        patch.setattr(step, "render", lambda *given, **named: render(*given, **named).double())
        patch.setattr(step, "unit_interval", lambda given: unit_interval(given).double())
        with pytest.raises(Interrupted):
            pretrain(cell, images(), world, States(folder), Watch(asked))


def train_with_a_stop_on_the_last_rank(world: World, folder: Path) -> dict[str, object]:
    """Return what an uninterrupted run ends with, and one that its last rank was asked to stop amid an epoch."""
    cell, last = cases()["dae l2"], world.rank == world.size - 1
    watches = [Watch(None) for _ in range(2)]
    whole = pretrain(cell, images(), world, States(folder / "whole"), watches[0])
    with pytest.raises(Interrupted, match=f"epoch 0, step 2 of {STEPS}"):
        pretrain(cell, images(), world, States(folder / "parts"), Watch(2 if last else None))
    resumed = pretrain(cell, images(), world, States(folder / "parts"), watches[1])
    same = serialise(whole.state_dict()) == serialise(resumed.state_dict())
    return {"same": same, "logged": [watch.logged for watch in watches]}


def compiled_losses(world: World, folder: Path) -> dict[str, list[object]]:
    """Return for losses that look at the whole batch how the step was computed, and the loss it came to, both ways."""
    found: dict[str, list[object]] = {}
    for name in ("simclr", "dae barlow_twins"):
        one = cases()[name]
        cell = replace(one, optimisation=replace(one.optimisation, epochs=1))
        for compiler in ("none", "aot_eager"):
            watch = Watch(None)
            pretrain(cell, images(), world, States(folder / f"{name} {compiler}"), watch, compiler=compiler)
            found.setdefault(name, []).extend([watch.how.get("compiled"), (watch.logged or {1: {}})[1].get("loss")])
    return found


def captured_in_parts(world: World, folder: Path) -> dict[str, object]:
    """Return whether ranks that replay the parts of a step train the same, and how many parts each replays."""
    cell, began, render, watch = cases()["dae l2"], step.Step.begin, step.render, Watch(None)

    def begin(self: step.Step) -> None:
        for group in self.training.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])
        began(self)

    with pytest.MonkeyPatch.context() as patch:  # as on a GPU: the rate is there, and no view waits for the host
        patch.setattr(step.Step, "begin", begin)
        patch.setattr(step, "render", lambda *given, **named: render(*given, **named | {"plan": "batched"}))
        plain = pretrain(cell, images(), world, States(folder / "plain"), Watch(None))
        tapes = taped(patch, step)
        captured = pretrain(cell, images(), world, States(folder / "captured"), watch)
    same = serialise(plain.state_dict()) == serialise(captured.state_dict())
    return {"same": same, "parts": len(tapes), "told": watch.how.get("captured")}


def exchanged(world: World) -> dict[str, object]:
    """Return the gradients of a loss that differs from rank to rank, and how many exchanges they took."""
    parameters = [torch.nn.Parameter(torch.ones(2, 3, 2, 2).to(memory_format=torch.channels_last)),
                  torch.nn.Parameter(torch.ones(5))]  # fmt: skip
    gradients, exchanges = Gradients(parameters, world), []
    all_reduce = torch.distributed.all_reduce
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "all_reduce", lambda *given: exchanges.append(1) or all_reduce(*given))
        for _ in range(2):  # what is left of the first must not count in the second
            gradients.clear()
            gradients.of((world.rank + 1) * sum((p * torch.arange(p.numel()).view_as(p)).sum() for p in parameters))
            gradients.exchange()
    same = [p.grad.stride() == p.stride() for p in parameters if p.grad is not None]
    return {"gradients": [p.grad for p in parameters], "exchanges": len(exchanges), "strides": same}


def contrast_gradients(world: World) -> dict[str, Tensor]:
    """Return this rank's part of NT-Xent, and its gradient to the rank's rows, as training averages them."""
    share = world.share(8)
    own = [z[share].clone().requires_grad_() for z in embeddings()]
    loss = nt_xent(*own, 0.5, world)
    loss.backward()
    alone = nt_xent(*own, 0.5, World(0, 1, world.device))
    return {"loss": loss.detach(), "alone": alone.detach(), "gradient": torch.stack([z.grad for z in own]) / world.size}


def gathered(world: World) -> dict[str, Tensor]:
    """Return the gathered rows, and the gradient to this rank's of a loss that differs from rank to rank."""
    own = embeddings()[0][world.share(8)].clone().requires_grad_()
    rows = gather_rows(own, world)
    weights = torch.arange(40.0, dtype=torch.double).view(8, 5)
    ((world.rank + 1) * weights * rows).sum().backward()
    assert own.grad is not None
    return {"rows": rows.detach(), "gradient": own.grad}


def work(rank: int, size: int, port: int, folder: Path) -> None:
    """Do one rank's part of every check; what it finds is written to `folder`."""
    torch.set_num_threads(1)
    # As under torchrun, whose agent holds the store; so no two tests can want one port.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with world("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.first) == (rank, size, rank == 0)
        found = {
            "contrast": contrast_gradients(ranks),
            "gathered": gathered(ranks),
            "any": [ranks.any(rank == size - 1), ranks.any(False)],
            "broadcast": ranks.broadcast({"from": rank}),
            "exchanged": exchanged(ranks),
            "in parts": captured_in_parts(ranks, folder / "in parts"),
            "compiled": compiled_losses(ranks, folder / "compiled") if size == min(RANKS) else {},
        }
        for name, cell in cases().items():
            train_an_epoch(cell, ranks, folder / name)
        loop.AGREE_EVERY_STEPS = 1
        found |= train_with_a_stop_on_the_last_rank(ranks, folder)
        torch.save(found, folder / f"found-{rank}.pt")
        ranks.barrier()
    assert not torch.distributed.is_initialized()


@pytest.fixture(scope="module", params=RANKS)
def launched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Run `work` on several ranks, once for all tests; return how many and where they wrote."""
    size, folder = request.param, tmp_path_factory.mktemp("ranks")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.spawn(work, (size, store.port, folder), nprocs=size)
    return size, folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with what a single rank trains."""
    folder = tmp_path_factory.mktemp("alone")
    for name, cell in cases().items():
        train_an_epoch(cell, World(0, 1, torch.device("cpu")), folder / name)
    return folder


def found_by(launched: tuple[int, Path]) -> list[dict[str, object]]:
    size, folder = launched
    return [torch.load(folder / f"found-{rank}.pt") for rank in range(size)]


def state_in(folder: Path) -> dict[str, object]:
    state = States(folder).load(pytest.fail)
    assert state is not None
    return state


def distances(cell: Cell, one: dict[str, object], other: dict[str, object]) -> Iterator[tuple[str, str, float]]:
    """Yield the kind and name of each part of two training states, and how far apart they are, relative to its length.

    Weights are told from where they started, for three steps do not take them far.
    """

    def relative(a: Tensor, b: Tensor) -> float:
        return ((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30)).item()

    for name, weight in cell.method.networks(cell.networks, cell.seed).state_dict().items():
        yield "weights", name, relative(one["networks"][name] - weight, other["networks"][name] - weight)
    for index, moments in other["optimizer"]["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            yield "moments", f"{name} {index}", relative(one["optimizer"]["state"][index][name], moments[name])
    for name, value in other["sums"].items():
        yield "terms", name, relative(one["sums"][name], value)


@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_ranks_train_what_one_rank_trains(name: str, launched: tuple[int, Path], alone: Path) -> None:
    """Terms, both moments of Adam and weights after three steps, for every method and loss.

    Only the order of summation differs; the losses are summed in float32 (unit 6e-8). Adam's moments tell a gradient's
    scale, which Adam hides from the weights; but a gradient that is 0 to rounding becomes a whole step of either sign,
    so the distance that weights have moved is held less tightly.
    """
    size, folder = launched
    ranks, single = state_in(folder / name), state_in(alone / name)
    assert (ranks["step"], ranks["epoch"]) == (single["step"], single["epoch"]) == (STEPS, 0)
    assert ranks["sums"].keys() == single["sums"].keys()
    tolerance = {"terms": 1e-5, "moments": 1e-4, "weights": 1e-3}
    apart = {n: far for kind, n, far in distances(cases()[name], ranks, single) if not far < tolerance[kind]}
    assert apart == {}, f"{size} ranks trained something else"


@pytest.mark.slow
def test_gathered_rows_are_everyones_in_rank_order(launched: tuple[int, Path]) -> None:
    for found in found_by(launched):
        assert torch.equal(found["gathered"]["rows"], embeddings()[0])


@pytest.mark.slow
def test_gathered_rows_pass_every_ranks_gradient_to_their_owner(launched: tuple[int, Path]) -> None:
    size = launched[0]
    gradient = torch.cat([found["gathered"]["gradient"] for found in found_by(launched)])
    everyones = sum(range(1, size + 1)) * torch.arange(40.0, dtype=torch.double).view(8, 5)
    assert torch.equal(gradient, everyones)


@pytest.mark.slow
def test_nt_xent_and_its_gradient_are_those_of_the_global_batch(launched: tuple[int, Path]) -> None:
    whole = [z.requires_grad_() for z in embeddings()]
    loss = nt_xent(*whole, 0.5, World(0, 1, torch.device("cpu")))
    loss.backward()
    found = [found["contrast"] for found in found_by(launched)]
    torch.testing.assert_close(torch.stack([f["loss"] for f in found]).mean(), loss.detach(), rtol=1e-13, atol=0)
    gradient = torch.cat([f["gradient"] for f in found], dim=1)
    torch.testing.assert_close(gradient, torch.stack([z.grad for z in whole]), rtol=1e-12, atol=1e-15)
    own_batches_only = torch.stack([f["alone"] for f in found]).mean()
    assert own_batches_only < loss - 0.1, "a rank's own images are fewer negatives: the loss would be lower"


@pytest.mark.slow
def test_gradients_are_the_mean_over_ranks_in_one_exchange(launched: tuple[int, Path]) -> None:
    size = launched[0]
    mean = sum(range(1, size + 1)) / size
    for found in found_by(launched):
        assert found["exchanged"]["exchanges"] == 2, "one for each of the two losses"
        assert found["exchanged"]["strides"] == [True, True]
        for gradient in found["exchanged"]["gradients"]:
            assert torch.equal(gradient, mean * torch.arange(float(gradient.numel())).view_as(gradient))


@pytest.mark.slow
def test_ranks_replay_both_parts_of_a_step_round_their_exchange_and_train_the_same(launched: tuple[int, Path]) -> None:
    first, *others = (found["in parts"] for found in found_by(launched))
    assert first == {"same": True, "parts": 2, "told": True}
    assert all(found == {"same": True, "parts": 2, "told": None} for found in others)


@pytest.mark.slow
def test_losses_of_the_whole_batch_are_compiled_on_several_ranks_too(launched: tuple[int, Path]) -> None:
    if launched[0] != min(RANKS):
        pytest.skip("tried on two ranks")
    first, *others = found_by(launched)
    for plain, plain_loss, compiled, loss in first["compiled"].values():
        assert (plain, compiled) == (False, True)
        assert loss == pytest.approx(plain_loss, rel=1e-3)
    assert all(values == [None] * 4 for found in others for values in found["compiled"].values()), "only one rank tells"


@pytest.mark.slow
def test_what_one_rank_says_every_rank_hears(launched: tuple[int, Path]) -> None:
    for found in found_by(launched):
        assert found["any"] == [True, False]
        assert found["broadcast"] == {"from": 0}


@pytest.mark.slow
def test_ranks_stop_together_amid_an_epoch_and_resume_bit_for_bit(launched: tuple[int, Path]) -> None:
    """The last rank alone is asked to stop; weights and what is logged are those of a run that was not."""
    first, *others = found_by(launched)
    assert all(found["same"] for found in (first, *others))
    whole, resumed = first["logged"]
    assert set(whole) == set(resumed) == {1, 2}
    for epoch in (1, 2):
        for term in ("loss", "reconstruction", "embedding", "embedding_std"):
            assert resumed[epoch][term] == pytest.approx(whole[epoch][term], rel=1e-12)
    assert all(found["logged"] == [None, None] for found in others), "only the first rank speaks"


def test_shares_of_a_batch_are_equal_and_cover_it() -> None:
    parts = [list(range(12))[World(rank, 3, torch.device("cpu")).share(12)] for rank in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=512: choose a multiple of the 3 ranks"):
        World(0, 3, torch.device("cpu")).share(512)


def test_a_single_process_is_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with world("cpu") as single:
        assert single == World(0, 1, torch.device("cpu"))
        assert not torch.distributed.is_initialized()
        rows = torch.ones(2, 3)
        assert gather_rows(rows, single) is rows
        assert single.any(True)
        assert not single.any(False)
        assert single.broadcast("said") == "said"


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="device='gpu': choose auto, cpu or cuda"), world("gpu"):
        pass


def test_a_rank_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="each needs its own GPU, and there are 2"), world("cuda"):
        pass
