"""The probe against torch.nn.Linear + torch.optim.Adam, the logistic regression against scikit-learn."""

import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dae_ssl import config, replay
from dae_ssl.distributed import arithmetic
from dae_ssl.evaluation import probe
from tests.taped import Tape, taped

CLASSES = 3


def features(images: int, width: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return overlapping clusters, one a class, off centre and unequally scaled."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(99))
    y = torch.randint(CLASSES, (images,), generator=generator)
    x = centres[y] + 1.5 * torch.randn(images, width, generator=generator) + 0.5
    return x * torch.linspace(0.2, 2, width), y


def trained_alone(x: Tensor, y: Tensor, settings: config.Probe, rate: float, seed: int) -> torch.nn.Linear:
    """The oracle: one linear layer and torch's Adam, on the probe's batches."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(x.shape[1], CLASSES)
    optimiser = torch.optim.Adam(layer.parameters(), lr=rate)
    for epoch in range(1, settings.epochs + 1):
        for rows in probe.batch_order(len(x), epoch).split(settings.batch_size):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(layer(x[rows].float()), y[rows]).backward()
            optimiser.step()
    return layer


def train(settings: config.Probe, dtype: torch.dtype = torch.float32, log: probe.Log | None = None) -> probe.Selection:
    (x, y), (validation_x, validation_y) = features(1000), features(400, seed=1)
    return probe.train_probe(
        x.to(dtype), y, validation_x.to(dtype), validation_y, settings=settings, classes=CLASSES, log=log
    )


# 600 rows a batch are gathered in 4 blocks of 128 and one of 88, and the last batch of 400 is incomplete.
@pytest.mark.parametrize("batch_size", [64, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("rate", [1e-3, 3e-2])
def test_every_learner_equals_linear_and_adam_trained_alone(batch_size: int, dtype: torch.dtype, rate: float) -> None:
    settings = config.Probe(epochs=4, batch_size=batch_size, learning_rates=(rate, rate * 1e-6), seeds=(0, 7, 3))
    selection = train(settings, dtype)
    x, y = features(1000)
    assert selection.learning_rate == rate
    for i, seed in enumerate(settings.seeds):
        layer = trained_alone(x.to(dtype), y, settings, rate, seed)
        torch.testing.assert_close(selection.classifier.weight[i], layer.weight.detach(), rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(selection.classifier.bias[i], layer.bias.detach(), rtol=1e-4, atol=2e-5)


def test_learners_do_not_disturb_each_other() -> None:
    together = train(config.Probe(epochs=3, learning_rates=(1e-2, 1e-7), seeds=(4, 5)))
    alone = train(config.Probe(epochs=3, learning_rates=(1e-2,), seeds=(5,)))
    torch.testing.assert_close(together.classifier.weight[1], alone.classifier.weight[0], rtol=1e-4, atol=1e-6)


def test_log_gives_loss_and_validation_accuracy_of_every_rate_after_every_epoch() -> None:
    logged = []
    settings = config.Probe(epochs=3, learning_rates=(1e-2, 1e-3), seeds=(0, 1))
    selection = train(settings, log=lambda epoch, terms: logged.append((epoch, dict(terms))))
    assert [epoch for epoch, _ in logged] == [1, 2, 3]
    names = {f"{kind}/lr{rate}" for kind in ("train_loss", "validation_accuracy") for rate in ("0.01", "0.001")}
    assert all(set(terms) == names for _, terms in logged)
    last = logged[-1][1]
    assert last["validation_accuracy/lr0.01"] == selection.validation[1e-2].mean
    assert logged[-1][1]["train_loss/lr0.01"] < logged[0][1]["train_loss/lr0.01"]


def test_logged_train_loss_is_the_mean_over_images_while_training() -> None:
    logged: list[float] = []
    rate = 1e-30  # the weights stay where they start, so that the loss can be computed afterwards
    settings = config.Probe(epochs=1, batch_size=300, learning_rates=(rate,))
    train(settings, log=lambda _, terms: logged.append(terms["train_loss/lr1e-30"]))
    (x, y), layer = features(1000), trained_alone(*features(1), settings, rate, seed=0)
    loss = torch.nn.functional.cross_entropy(layer(x), y)
    assert logged[0] == pytest.approx(loss.item(), rel=1e-5)


def test_the_rate_with_the_best_mean_validation_accuracy_is_chosen() -> None:
    selection = train(config.Probe(epochs=3, learning_rates=(1e-7, 1e-2, 1e-6), seeds=(0, 1)))
    assert selection.learning_rate == 1e-2
    assert selection.validation[1e-2].mean == max(accuracy.mean for accuracy in selection.validation.values())
    validation_x, validation_y = features(400, seed=1)
    assert selection.classifier.accuracy(validation_x, validation_y) == selection.validation[1e-2]


def test_of_equal_rates_the_first_is_chosen() -> None:
    assert train(config.Probe(epochs=1, learning_rates=(1e-20, 1e-21))).learning_rate == 1e-20


def test_selection_is_given_no_test_arrays() -> None:
    names = set(inspect.signature(probe.train_probe).parameters)
    assert names == {"train_x", "train_y", "validation_x", "validation_y", "settings", "classes", "log", "tell"}


def test_correct_and_accuracy_equal_a_loop_over_seeds_and_images() -> None:
    selection = train(config.Probe(epochs=30, learning_rates=(1e-2,), seeds=(0, 1)))
    x, y = features(700, seed=2)
    correct = selection.classifier.correct(x, y)
    for seed in range(2):
        weight, bias = selection.classifier.weight[seed], selection.classifier.bias[seed]
        assert correct[seed].tolist() == [
            int((weight @ image + bias).argmax()) == int(label) for image, label in zip(x, y, strict=True)
        ]
    accuracy = selection.classifier.accuracy(x, y)
    assert accuracy.seeds == tuple(sum(row) / 700 for row in correct.tolist())
    assert accuracy.mean == pytest.approx(sum(accuracy.seeds) / 2)
    assert 0.5 < accuracy.mean < 1


def test_batch_order_is_a_permutation_that_depends_on_the_epoch_only() -> None:
    first, again, second = (probe.batch_order(100, epoch) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert first.sort().values.tolist() == list(range(100))


def test_batch_order_is_uniform() -> None:
    counts = torch.zeros(4, 4)
    for epoch in range(4000):
        counts[torch.arange(4), probe.batch_order(4, epoch)] += 1
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_few_labels_are_stratified_and_fixed() -> None:
    _, y = features(500)
    rows = probe.few_labels(y, 5, classes=CLASSES)
    assert y[rows].bincount().tolist() == [5] * CLASSES
    assert rows.unique().tolist() == rows.tolist()
    assert torch.equal(rows, probe.few_labels(y, 5, classes=CLASSES))
    assert not torch.equal(rows, probe.few_labels(y, 5, classes=CLASSES, seed=1))


def test_few_labels_refuses_more_than_a_class_has() -> None:
    with pytest.raises(ValueError, match="labels_per_class=3: choose at most the 2 images of class 1"):
        probe.few_labels(torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]), 3, classes=CLASSES)


def test_labels_per_class_equals_training_on_the_subset() -> None:
    x, y = features(1000)
    rows = probe.few_labels(y, 20, classes=CLASSES)
    settings = config.Probe(epochs=5, batch_size=16, labels_per_class=20)
    layer = trained_alone(x[rows], y[rows], settings, 1e-3, 0)
    torch.testing.assert_close(train(settings).classifier.weight[0], layer.weight.detach(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(4, 2, 2), torch.zeros(4, dtype=torch.int64), r"train features are \(4, 2, 2\)"),
        (torch.zeros(4, 2).double(), torch.zeros(4, dtype=torch.int64), "float64"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "n at least 1"),
        (torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64), r"train labels are \(3,\)"),
        (torch.zeros(4, 2), torch.full((4,), CLASSES), "0 to 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x: Tensor, y: Tensor, message: str) -> None:
    good_x, good_y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        probe.train_probe(x, y, good_x, good_y, settings=config.Probe(epochs=1), classes=CLASSES)
    with pytest.raises(ValueError, match=message):
        probe.logistic_regression(x, y, classes=CLASSES)


# ---------------------------------------------------------------------------------- bits

WIDTH, BLOCK = 20, 128


def as_before(
    x: Tensor, y: Tensor, validation: tuple[Tensor, Tensor], settings: config.Probe, rows: Tensor
) -> tuple[Tensor, list[tuple[list[float], list[float]]]]:
    """The oracle of bits: the loop in its most obvious form, which reads the host every time and adds -1 at targets.

    Returns weights and biases (learners x classes, d + 1), and losses and accuracies of learners after every epoch.
    """
    rates, seeds = settings.learning_rates, settings.seeds
    started = [torch.manual_seed(seed) and torch.nn.Linear(x.shape[1], CLASSES) for seed in seeds] * len(rates)
    weight = torch.cat([layer.weight.detach() for layer in started]).clone()
    bias = torch.cat([layer.bias.detach() for layer in started]).clone()
    by_weight, by_bias, groups = torch.zeros_like(weight), torch.zeros_like(bias), []
    for i, rate in enumerate(rates):
        own = slice(i * len(seeds) * CLASSES, (i + 1) * len(seeds) * CLASSES)
        pair = [torch.nn.Parameter(weight[own]), torch.nn.Parameter(bias[own])]
        pair[0].grad, pair[1].grad = by_weight[own], by_bias[own]
        groups.append({"params": pair, "lr": rate})
    adam, told = torch.optim.Adam(groups, fused=True), []
    for epoch in range(1, settings.epochs + 1):
        order, total = rows[probe.batch_order(len(rows), epoch)], torch.zeros(len(started), dtype=torch.float64)
        for batch in order.split(settings.batch_size):
            by_weight.zero_()
            by_bias.zero_()
            for part in batch.split(min(settings.batch_size, BLOCK)):
                block, target = x[part].float(), y[part].expand(len(started), 1, -1)
                logits = torch.addmm(bias[:, None], weight, block.T).view(len(started), CLASSES, -1)
                log_probability = logits.log_softmax(1)
                at_target = log_probability.gather(1, target)
                error = log_probability.exp().scatter_add(1, target, -torch.ones_like(at_target))
                error = (error / len(batch)).flatten(0, 1)
                by_weight.addmm_(error, block)
                by_bias.add_(error.sum(1))
                total += -at_target.sum((1, 2), dtype=torch.float64)
            adam.step()
        logits = [torch.addmm(bias[:, None], weight, part.float().T) for part in validation[0].split(BLOCK)]
        predicted = torch.cat(logits, 1).view(len(started), CLASSES, -1).argmax(1)
        told.append(((total / len(order)).tolist(), (predicted == validation[1]).double().mean(1).tolist()))
    return torch.cat([weight, bias[:, None]], 1), told


def bits(selection: probe.Selection) -> Tensor:
    return torch.cat([selection.classifier.weight, selection.classifier.bias[..., None]], 2).flatten(0, 1).cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("batch_size", [64, 600])
@pytest.mark.parametrize("few", [None, 20])
def test_every_bit_is_that_of_the_obvious_loop(dtype: torch.dtype, batch_size: int, few: int | None) -> None:
    rates, seeds = (1e-2, 1e-3), (0, 7, 3)
    settings = config.Probe(
        epochs=4, batch_size=batch_size, learning_rates=rates, seeds=seeds, labels_per_class=few
    )  # fmt: skip
    (x, y), (validation_x, validation_y) = features(1000, WIDTH), features(400, WIDTH, seed=1)
    rows = torch.arange(1000) if few is None else probe.few_labels(y, few, classes=CLASSES)
    expected, told = as_before(x.to(dtype), y, (validation_x.to(dtype), validation_y), settings, rows)
    logged: list[dict[str, float]] = []
    selection = train(settings, dtype, log=lambda _, terms: logged.append(dict(terms)))
    best = rates.index(selection.learning_rate) * len(seeds) * CLASSES
    assert torch.equal(bits(selection), expected[best : best + len(seeds) * CLASSES])
    for terms, (losses, accuracies) in zip(logged, told, strict=True):
        for i, rate in enumerate(rates):
            own = slice(i * len(seeds), (i + 1) * len(seeds))
            assert terms[f"train_loss/lr{rate:g}"] == math.fsum(losses[own]) / len(seeds)
            assert terms[f"validation_accuracy/lr{rate:g}"] == math.fsum(accuracies[own]) / len(seeds)


# ---------------------------------------------------------------------------------- an epoch as one graph


SETTINGS = config.Probe(epochs=5, batch_size=300, learning_rates=(1e-2, 1e-3), seeds=(0, 4))


def trained() -> tuple[Tensor, list[dict[str, float]], list[str | None]]:
    """Return weights, what was logged, and what was told."""
    logged: list[dict[str, float]] = []
    told: list[str | None] = []
    (x, y), (validation_x, validation_y) = features(1000), features(400, seed=1)
    selection = probe.train_probe(
        x.half(), y, validation_x.half(), validation_y,
        settings=SETTINGS, classes=CLASSES, log=lambda _, terms: logged.append(dict(terms)), tell=told.append,
    )  # fmt: skip
    return bits(selection), logged, told


def test_an_epoch_replayed_as_a_graph_gives_the_bits_of_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, logged, _ = trained()
    tapes = taped(monkeypatch, probe)
    replays: list[int] = []
    monkeypatch.setattr(Tape, "replay", lambda tape, replay=Tape.replay: (replays.append(1), replay(tape))[1])
    again, logged_again, told = trained()
    assert (len(tapes), len(replays)) == (1, 4)  # the first of them is the comparison in the second epoch
    assert torch.equal(weights, again)
    assert logged == logged_again
    assert told == [None]


def test_a_graph_that_cannot_be_captured_is_told_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, logged, _ = trained()

    def refuse(_replay: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be")

    taped(monkeypatch, probe, refuse)
    again, logged_again, told = trained()
    assert torch.equal(weights, again)
    assert logged == logged_again
    assert told == [
        "capturing a CUDA graph failed, so this runs without one: operation not permitted when stream is capturing"
    ]


def test_a_graph_with_other_bits_is_told_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, logged, _ = trained()
    tapes: list[Tape] = []

    def forget_the_last_operation(replay: Callable[[], None]) -> Callable[[], None]:
        tapes[-1].operations.pop()
        return replay

    tapes = taped(monkeypatch, probe, forget_the_last_operation)
    again, logged_again, told = trained()
    assert torch.equal(weights, again)
    assert logged == logged_again
    assert told == ["the captured CUDA graph computes other bits than the work itself, so this runs without one"]


def test_a_probe_of_one_epoch_captures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tapes = taped(monkeypatch, probe)
    train(config.Probe(epochs=1))
    assert tapes == []


def test_weights_that_are_not_numbers_are_no_reason_to_doubt_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    taped(monkeypatch, probe)
    told: list[str | None] = []
    x, y = features(100)
    x[0, 0] = float("nan")
    settings = config.Probe(epochs=3)
    selection = probe.train_probe(x, y, x, y, settings=settings, classes=CLASSES, tell=told.append)
    assert selection.classifier.weight.isnan().any()
    assert told == [None]


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda")


def on_gpu(
    device: torch.device, precision: str = "fp32"
) -> tuple[probe.Selection, list[dict[str, float]], list[str | None]]:
    logged: list[dict[str, float]] = []
    told: list[str | None] = []
    (x, y), (validation_x, validation_y) = features(1000), features(400, seed=1)
    arrays = [array.to(device) for array in (x.half(), y, validation_x.half(), validation_y)]
    with arithmetic(device, precision):
        selection = probe.train_probe(
            *arrays, settings=SETTINGS, classes=CLASSES, log=lambda _, terms: logged.append(dict(terms)),
            tell=told.append,
        )  # fmt: skip
    return selection, logged, told


@pytest.mark.cuda
def test_a_gpu_captures_an_epoch_and_gives_the_bits_of_uncaptured_ones(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures: list[int] = []
    monkeypatch.setattr(replay, "record", lambda work, record=replay.record: (captures.append(1), record(work))[1])
    captured, logged, told = on_gpu(gpu)
    assert told == [None]
    assert captures == [1]
    monkeypatch.setattr(probe, "repeated", lambda work, *_: work)
    plain, logged_plain, _ = on_gpu(gpu)
    assert torch.equal(bits(captured), bits(plain))
    assert logged == logged_plain


@pytest.mark.cuda
def test_a_gpu_trains_the_same_probe_and_regression(gpu: torch.device) -> None:
    (x, y), validation = features(1000), features(400, seed=1)
    ours, reference = on_gpu(gpu)[0], train(SETTINGS, torch.float16)
    assert ours.learning_rate == reference.learning_rate
    torch.testing.assert_close(ours.classifier.weight.cpu(), reference.classifier.weight, rtol=1e-4, atol=2e-5)
    assert ours.classifier.correct(*(array.to(gpu) for array in validation)).device.type == "cpu"
    fitted = [probe.logistic_regression(*arrays, classes=CLASSES) for arrays in ((x, y), (x.to(gpu), y.to(gpu)))]
    assert fitted[0].loss == pytest.approx(fitted[1].loss, rel=1e-3)


# ---------------------------------------------------------------------------------- logistic regression


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits (1797, 64); three of the pixels are constant."""
    return load_digits(return_X_y=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("penalty", "tolerance"), [(1e-3, 1e-5), (1e-1, 1e-4)])
def test_logistic_regression_equals_scikit_learns(penalty: float, tolerance: float, dtype: torch.dtype) -> None:
    images, labels = digits()
    x, y = torch.from_numpy(images).to(dtype), torch.from_numpy(labels)
    fitted = probe.logistic_regression(x, y, classes=10, penalty=penalty, tolerance=tolerance)
    assert fitted.converged
    scaler = StandardScaler().fit(images)
    oracle = SklearnLogisticRegression(C=1 / (len(y) * penalty), tol=1e-8, max_iter=5000)
    oracle.fit(scaler.transform(images), labels)
    weight = (fitted.classifier.weight[0].double().numpy() * scaler.scale_)[:, scaler.var_ > 0]
    np.testing.assert_allclose(weight, oracle.coef_[:, scaler.var_ > 0], atol=0.02 * np.abs(oracle.coef_).max())
    logits = x.float() @ fitted.classifier.weight[0].T + fitted.classifier.bias[0]
    probabilities = oracle.predict_proba(scaler.transform(images))
    np.testing.assert_allclose(logits.softmax(1).numpy(), probabilities, atol=5e-3)


def test_logistic_regression_does_not_depend_on_scale_and_place() -> None:
    x, y = features(600)
    moved = x * torch.logspace(-2, 2, x.shape[1]) + 3
    one, other = (probe.logistic_regression(z, y, classes=CLASSES) for z in (x, moved))
    assert one.loss == pytest.approx(other.loss, rel=1e-3)
    assert one.classifier.accuracy(x, y).mean == pytest.approx(other.classifier.accuracy(moved, y).mean, abs=5e-3)


def test_features_that_are_constant_in_training_are_ignored() -> None:
    x, y = features(600)
    constant = torch.cat([x, torch.full((600, 1), 0.1), torch.zeros(600, 1)], 1)
    fitted = probe.logistic_regression(constant, y, classes=CLASSES)
    assert (fitted.classifier.weight[..., -2:] == 0).all()
    assert fitted.loss == pytest.approx(probe.logistic_regression(x, y, classes=CLASSES).loss, rel=1e-5)


def test_a_fit_that_is_cut_short_says_that_it_did_not_converge() -> None:
    x, y = features(600)
    fitted = probe.logistic_regression(x, y, classes=CLASSES, max_iterations=2)
    assert (fitted.converged, fitted.iterations) == (False, 2)


def test_strongly_correlated_features_converge_in_few_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = features(1500, width=400)
    shared = torch.randn(1500, 5, generator=generator) @ torch.randn(5, 400, generator=generator)
    fitted = probe.logistic_regression(x + 20 * shared, y, classes=CLASSES)
    assert fitted.converged
    assert fitted.iterations <= 25  # 12; more than 50 without the preconditioning
