"""One training step: what it reads and changes, and that compiled, captured and plain ones train the same.

On a machine without a GPU the step is compiled all the same, for the CPU; tests marked `cuda` add what a GPU alone can
tell: `pytest -n 0 -m cuda`, also where nothing but the dependencies of training is installed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method
from dae_ssl.distributed import World, arithmetic, world
from dae_ssl.training import step as steps_of
from dae_ssl.training.checkpoint import States, serialise
from dae_ssl.training.losses import CONTRAST, EMBEDDING, RECONSTRUCTION
from dae_ssl.training.methods.siamese import DenoisingAutoencoder
from dae_ssl.training.pretrain import Interrupted, pretrain, start
from dae_ssl.training.step import PLAIN_STEPS, Step, learning_rate
from dae_ssl.training.views import draw, permutation, render
from tests.taped import taped

BATCH, STEPS, EPOCHS = 4, 3, 2
FULL_BATCH, FULL_STEPS, FULL_EPOCHS = 512, 8, 3
"""On a GPU, where libraries choose by the size what they run."""
ALONE = World(0, 1, torch.device("cpu"))
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def every_cell() -> dict[str, Cell]:
    """Return a cell for every method that trains, with every loss that it can take."""
    methods: dict[str, dict[str, Any]] = {name: {"name": name} for name, kind in Method.registry.items() if kind.trains}
    methods |= {f"dae {loss}": {"name": "dae", "embedding": loss, "alpha": 1} for loss in EMBEDDING}
    methods |= {f"dae {loss} reconstruction": {"name": "dae", "reconstruction": loss} for loss in RECONSTRUCTION}
    methods |= {f"simclr {loss}": {"name": "simclr", "contrast": loss} for loss in CONTRAST}
    return {name: tiny(method) for name, method in methods.items()}


def tiny(method: Mapping[str, Any], **changes: Any) -> Cell:
    optimisation = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 1e-3, "checkpoints": []}
    return config.cell({"method": method, "optimisation": optimisation} | changes)


L2 = tiny({"name": "dae", "embedding": "l2", "alpha": 1})


def images(n: int = BATCH * STEPS + 1) -> Tensor:
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@dataclass
class Watch:
    """Notes what it is told, and asks to stop after some steps."""

    stop_after: int = 10**9
    steps: int = 0
    logged: dict[int, dict[str, float]] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    how: dict[str, Any] = field(default_factory=dict)

    def log(self, epoch: int, terms: Mapping[str, float]) -> None:
        self.logged[epoch] = dict(terms)

    def event(self, kind: str, text: str) -> None:
        self.events.append((kind, text))

    def facts(self, facts: Mapping[str, Any]) -> None:
        self.how.update(facts)

    def progress(self, *_place: int) -> None:
        self.steps += 1

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None: ...

    def stop(self) -> bool:
        return self.steps >= self.stop_after


def train(cell: Cell, folder: Path, watch: Watch, compiler: str, device: str = "cpu") -> bytes:
    batch = cell.optimisation.batch_size
    shown = images(batch * (FULL_STEPS if batch == FULL_BATCH else STEPS) + 1)
    with world(device) as alone, arithmetic(alone.device, cell.precision):
        networks = pretrain(cell, shown.to(alone.device), alone, States(folder), watch, compiler=compiler)
        return serialise(networks.state_dict())


def by_hand(cell: Cell) -> tuple[bytes, dict[str, float]]:
    """Return what training ends with and the means of its last epoch's terms, step after step as one would write it."""
    method, settings, shown = cell.method, cell.optimisation, images()
    networks = method.networks(cell.networks, cell.seed).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(networks.parameters(), lr=settings.learning_rate, fused=True)
    weights = {name: torch.tensor(value) for name, value in method.weights(cell.networks).items()}
    for epoch in range(settings.epochs):
        order, sums = permutation(len(shown), seed=cell.seed, epoch=epoch), {}
        for number in range(STEPS):
            rows = order[number * BATCH : (number + 1) * BATCH]
            batch = shown[rows]
            views = (
                render(batch, draw(cell.views, seed=cell.seed, epoch=epoch, indices=rows, view=v, size=32), cell.views)
                for v in (1, 2)
            )
            clean = (batch / 255).contiguous(memory_format=torch.channels_last)
            terms = method.forward(networks, clean, *views, weights, ALONE)
            optimizer.zero_grad()
            terms["loss"].backward()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch * STEPS + number, settings.epochs * STEPS)
            optimizer.step()
            sums = {name: sums.get(name, 0) + value.double().item() for name, value in terms.items()}
    return serialise(networks.state_dict()), {name: value / STEPS for name, value in sums.items()}


@pytest.mark.parametrize("name", ["dae l2", "simclr nt_xent", "layerwise_dae"])
def test_steps_train_what_steps_written_by_hand_train_bit_for_bit(name: str, tmp_path: Path) -> None:
    cell, watch = every_cell()[name], Watch()
    trained = train(cell, tmp_path, watch, "none")
    expected, terms = by_hand(cell)
    assert trained == expected
    assert {term: watch.logged[EPOCHS][term] for term in terms} == pytest.approx(terms, rel=1e-12)


# ---------------------------------------------------------------------------------- compiled


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_method_and_loss_is_compiled_whole_also_from_the_ninth_cell_of_a_process_on(tmp_path: Path) -> None:
    """The graph is taken whole as on a GPU, and of each method differentiated; code is made of it in slower tests.

    Dynamo compiles eight functions from one place in the code, and no ninth, unless it is told to forget.
    """
    cells = every_cell()
    assert len(cells) > 9
    for name, cell in cells.items():
        backend = "aot_eager" if name in Method.registry else "eager"
        plain, compiled = Watch(), Watch()
        one_epoch = replace(cell, optimisation=replace(cell.optimisation, epochs=1))
        train(one_epoch, tmp_path / f"{name} plain", plain, "none")
        train(one_epoch, tmp_path / f"{name} compiled", compiled, backend)
        assert compiled.events == [], name
        assert compiled.how["compiled"] is True, name
        assert compiled.how["compile_seconds"] > 0
        assert plain.how["compiled"] is False
        assert compiled.logged[1]["loss"] == pytest.approx(plain.logged[1]["loss"], rel=1e-3), name


@pytest.mark.parametrize("stop_after", [STEPS, STEPS + 1])
def test_a_compiled_run_goes_on_from_the_end_of_an_epoch_and_from_amid_one(stop_after: int, tmp_path: Path) -> None:
    whole, watch = train(L2, tmp_path / "whole", Watch(), "eager"), Watch()
    with pytest.raises(Interrupted):
        train(L2, tmp_path / "parts", Watch(stop_after=stop_after), "eager")
    assert train(L2, tmp_path / "parts", watch, "eager") == whole
    assert ([kind for kind, _ in watch.events], watch.how["compiled"]) == (["resumed"], True)


@pytest.mark.parametrize("term", ["loss", "reconstruction"])
def test_a_term_that_is_no_scalar_is_one_line_before_any_parameter_changes(
    term: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = DenoisingAutoencoder.forward
    monkeypatch.setattr(
        DenoisingAutoencoder, "forward", lambda *given: {**forward(*given), term: forward(*given)[term].expand(3)}
    )
    with pytest.raises(ConfigError, match=rf"^dae computed the term '{term}' of shape \(3,\): return a scalar$"):
        train(L2, tmp_path, Watch(), "none")


def test_a_step_that_breaks_the_graph_is_told_and_runs_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(L2, tmp_path / "plain", Watch(), "none")
    forward = DenoisingAutoencoder.forward

    def breaking(*given: Any) -> Mapping[str, Tensor]:
        torch._dynamo.graph_break()
        return forward(*given)

    monkeypatch.setattr(DenoisingAutoencoder, "forward", breaking)
    watch = Watch()
    assert train(L2, tmp_path / "compiled", watch, "aot_eager") == whole
    ((kind, text),) = watch.events
    assert (kind, watch.how["compiled"]) == ("not_compiled", False)
    assert "graph_break" in text


def test_where_compiling_fails_training_goes_on_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def failing(_function: object, **_options: object) -> Callable[..., object]:
        def compiled(*_inputs: object) -> object:
            tried.append(1)
            raise RuntimeError("no C compiler found\nand a long trace")

        return compiled

    whole = train(L2, tmp_path / "plain", Watch(), "none")
    monkeypatch.setattr(torch, "compile", failing)
    watch = Watch()
    assert train(L2, tmp_path / "compiled", watch, "inductor") == whole
    assert watch.events == [("not_compiled", "torch.compile failed, so training runs uncompiled: no C compiler found")]
    assert watch.how["compiled"] is False
    assert len(tried) == 1, "it was compiled again in every step"


def test_a_warning_of_the_compiler_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(function: Callable[..., object], **_options: object) -> Callable[..., object]:
        told = []

        def compiled(*given: object) -> object:
            if not told:
                told.append(1)
                steps_of.warnings.warn("online softmax is disabled", stacklevel=1)
            return function(*given)

        return compiled

    monkeypatch.setattr(torch, "compile", warning)
    watch = Watch()
    train(L2, tmp_path, watch, "inductor")
    assert (watch.events, watch.how["compiled"]) == ([], True)


def test_an_error_that_is_not_of_the_compiler_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object) -> object:
        raise ZeroDivisionError("the method's own")

    monkeypatch.setattr(DenoisingAutoencoder, "forward", broken)
    with pytest.raises(ZeroDivisionError, match="the method's own"):
        train(L2, tmp_path, Watch(), "aot_eager")


TRAINED_ELSEWHERE = """
import json, sys
from pathlib import Path
from torch._dynamo.utils import counters
from dae_ssl import config, files
from dae_ssl.training.pretrain import Interrupted
from dae_ssl.training.step import compile_cache
from tests.training.test_step import Watch, train
given = json.loads(sys.argv[1])
watch, trained = Watch(given["stop_after"]), b""
try:
    with compile_cache(Path(given["cache"])):
        trained = train(config.cell(given["cell"]), Path(given["folder"]), watch, given["compiler"], given["device"])
except Interrupted:
    pass
made, found = (counters["inductor"][f"fxgraph_cache_{word}"] for word in ("miss", "hit"))
told = ("loss", "reconstruction", "embedding")
terms = {epoch: {term: of[term] for term in told if term in of} for epoch, of in watch.logged.items()}
print(json.dumps({"sha": files.sha256_of(trained), "terms": terms, "how": watch.how, "events": watch.events,
                  "made": made, "found": found}))
"""


def train_elsewhere(cell: Cell, folder: Path, cache: Path, **given: Any) -> dict[str, Any]:
    """Train in a process of its own, with the real compiler, and return what came of it."""
    told = {"cell": config.settings(cell), "folder": str(folder), "cache": str(cache), "stop_after": 10**9}
    told |= {"compiler": "auto" if torch.cuda.is_available() else "inductor", "device": "auto"} | given
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAINED_ELSEWHERE, json.dumps(told)],
        env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_compiled(cell: Cell, folder: Path, stop_after: int, near: float) -> dict[str, Any]:
    """Assert that a run which compiles anew and one resumed from what that left behind are equal, and near a plain one.

    Each of the first two is a process of its own.
    """
    whole = train_elsewhere(cell, folder / "whole", folder / "cache")
    train_elsewhere(cell, folder / "parts", folder / "cache", stop_after=stop_after)
    resumed = train_elsewhere(cell, folder / "parts", folder / "cache")
    plain = Watch()
    train(cell, folder / "plain", plain, "none", "auto")
    assert [how["compiled"] for how in (whole["how"], resumed["how"], plain.how)] == [True, True, False]
    assert (whole["events"], [kind for kind, _ in resumed["events"]]) == ([], ["resumed"])
    assert whole["made"] > 0
    assert (resumed["made"], resumed["found"]) == (0, whole["made"]), "a resumed run compiled anew"
    assert resumed["sha"] == whole["sha"]
    last = cell.optimisation.epochs
    terms = whole["terms"][str(last)]
    assert terms == pytest.approx({term: plain.logged[last][term] for term in terms}, rel=near)
    return whole


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the tests marked cuda do it there")
def test_compiled_training_is_exactly_resumable_whatever_the_cache_and_one_graph_serves_every_alpha(
    tmp_path: Path,
) -> None:
    first = check_compiled(L2, tmp_path, STEPS + 1, near=1e-4)
    other = replace(L2, seed=5, method=replace(L2.method, alpha=37.5))
    again = train_elsewhere(other, tmp_path / "other", tmp_path / "cache")
    assert again["sha"] != first["sha"]
    assert (again["made"], again["found"]) == (0, first["made"]), "another alpha was compiled anew"


# ---------------------------------------------------------------------------------- captured


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Adam's learning rate be a tensor, and views be rendered without a word from the host."""
    began = Step.begin
    monkeypatch.setattr(steps_of, "render", lambda *given, **named: render(*given, **named | {"plan": "batched"}))

    def begin(step: Step) -> None:
        for group in step.training.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"])
        began(step)

    monkeypatch.setattr(Step, "begin", begin)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", ["dae l2", "simclr nt_xent", "layerwise_dae"])
def test_a_captured_step_is_replayed_from_the_fifth_step_on_and_trains_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a step needs is on the device: nothing waits for it, and no number of an earlier step stays in it."""
    cell, plain, captured, replays = every_cell()[name], Watch(), Watch(), []
    whole = train(cell, tmp_path / "plain", plain, "none")
    tapes = taped(monkeypatch, steps_of, lambda replay: lambda: (replays.append(1), replay())[1])
    assert train(cell, tmp_path / "captured", captured, "none") == whole
    assert (len(tapes), len(replays)) == (1, EPOCHS * STEPS - PLAIN_STEPS)
    assert (plain.how["captured"], captured.how["captured"], captured.events) == (False, True, [])
    for term in ("loss", "learning_rate"):
        assert captured.logged[EPOCHS][term] == plain.logged[EPOCHS][term]


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_step_interrupted_amid_its_replays_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(L2, tmp_path / "whole", Watch(), "none")
    taped(monkeypatch, steps_of)
    with pytest.raises(Interrupted):
        train(L2, tmp_path / "parts", Watch(stop_after=PLAIN_STEPS + 2), "none")
    assert train(L2, tmp_path / "parts", Watch(), "none") == whole


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_captured_step_with_other_bits_is_told_and_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, watch, tapes = train(L2, tmp_path / "plain", Watch(), "none"), Watch(), []

    def forget_the_last_operation(replay: Callable[[], None]) -> Callable[[], None]:
        tapes[-1].operations.pop()
        return replay

    tapes = taped(monkeypatch, steps_of, forget_the_last_operation)
    assert train(L2, tmp_path / "captured", watch, "none") == whole
    ((kind, text),) = watch.events
    assert (kind, watch.how["captured"]) == ("not_captured", False)
    assert "other bits" in text


def test_among_several_ranks_no_exchange_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, captured = World(0, 2, torch.device("cpu")), []
    monkeypatch.setattr(steps_of, "repeated", lambda work, *_, **__: captured.append(work.__name__) or work)
    for cell in (L2, every_cell()["simclr nt_xent"], every_cell()["dae barlow_twins"]):
        Step(cell, cell.method, start(cell, cell.method, ranks), images(), slice(0, BATCH), ranks, Watch(), None)
    assert captured == ["_differentiate", "_update", "_update", "_update"]


# ---------------------------------------------------------------------------------- on a GPU


NEAR = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 2e-2}
"""How far terms of the loss may lie from those of uncompiled steps, which round elsewhere."""


def full(cell: Cell, precision: str = "fp32") -> Cell:
    """Return a cell with the study's batches, in a precision."""
    optimisation = replace(cell.optimisation, batch_size=FULL_BATCH, epochs=FULL_EPOCHS)
    return replace(cell, precision=precision, optimisation=optimisation)


@pytest.mark.cuda
@GPU
@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("name", every_cell())
def test_on_a_gpu_every_method_loss_and_precision_is_compiled_captured_and_exactly_resumable(
    name: str, precision: str, tmp_path: Path
) -> None:
    amid_replays = FULL_STEPS + PLAIN_STEPS
    whole = check_compiled(full(every_cell()[name], precision), tmp_path, amid_replays, NEAR[precision])
    assert whole["how"]["captured"] is True
    if every_cell()[name].method.augments:
        assert whole["how"]["views"] == "triton"


@pytest.mark.cuda
@GPU
def test_a_gpu_trains_what_a_cpu_trains_up_to_rounding(tmp_path: Path) -> None:
    on_gpu, on_cpu = Watch(), Watch()
    train(L2, tmp_path / "gpu", on_gpu, "auto", "cuda")
    train(L2, tmp_path / "cpu", on_cpu, "none", "cpu")
    for term in ("loss", "reconstruction", "embedding"):
        assert on_gpu.logged[EPOCHS][term] == pytest.approx(on_cpu.logged[EPOCHS][term], rel=1e-2)
