"""Arrays -> accuracy: the study's linear probe, and a logistic regression that needs no tuning.

All learning rates and seeds of the probe are trained in one pass: the learners' weights are the rows of one matrix, so
a batch of features is fetched once for all of them. Selection sees only train and validation arrays; it returns a
`Classifier`, which is given the test arrays once.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dae_ssl import config
from dae_ssl.replay import Tell, capturable, repeated

BATCH_ORDER_SEED = 0
"""The order of the batches is the same for every probe; the seeds of a probe vary only the initial weights."""
FEW_LABELS_SEED = 0
PENALTY = 1e-2
"""L2 penalty of `logistic_regression`, fixed so that nothing is tuned; scikit-learn's C is 1 / (images x penalty)."""
BLOCK_ROWS = 128
"""Rows fetched at a time on a CPU: 4 MB of 8192-d float32, which stay in cache for the second of two products."""

SAMPLE = 2048
"""The largest number of images whose principal directions `logistic_regression` uses to converge in fewer steps."""

Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """One linear classifier for each seed: weight (seeds, classes, d), bias (seeds, classes), float32."""

    weight: Tensor
    bias: Tensor

    def correct(self, x: Tensor, y: Tensor) -> Tensor:
        """Return, for each seed and image, whether the prediction is the label: bool (seeds, n), on the CPU."""
        _check(x, y, self.bias.shape[1], "evaluation")
        stack = _Stack(self.weight.to(x.device), self.bias.to(x.device))
        return torch.cat([stack.logits(x[rows].float()).argmax(1).eq(y[rows]) for rows in _slices(x)], 1).cpu()

    def accuracy(self, x: Tensor, y: Tensor) -> "Accuracy":
        """Return the share of images (n, d) whose label (n,) is predicted, for each seed and on average."""
        return Accuracy.of(self.correct(x, y))


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Shares between 0 and 1: one for each seed, and their mean."""

    seeds: tuple[float, ...]
    mean: float

    @classmethod
    def of(cls, correct: Tensor) -> "Accuracy":
        """Summarise what `Classifier.correct` returned, bool (seeds, n)."""
        return cls.counted(correct.sum(1).tolist(), correct.shape[1])

    @classmethod
    def counted(cls, correct: Sequence[float], images: int) -> "Accuracy":
        """Summarise, for each seed, how many predictions for `images` images were correct."""
        seeds = tuple(count / images for count in correct)
        return cls(seeds=seeds, mean=math.fsum(seeds) / len(seeds))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The probe with the learning rate that has the highest validation accuracy, and all validation accuracies."""

    classifier: Classifier
    learning_rate: float
    validation: dict[float, Accuracy]
    """The accuracy after the last epoch for each learning rate."""


def train_probe(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    *,
    settings: config.Probe,
    classes: int,
    log: Log | None = None,
    tell: Tell = lambda _reason: None,
) -> Selection:
    """Train one linear layer on frozen features, for each learning rate and seed, and choose the learning rate.

    Cross-entropy, Adam, no schedule, no weight decay, on raw features (the study, section on linear evaluation). Every
    learner equals a `torch.nn.Linear` made after `torch.manual_seed(seed)` and trained alone by `torch.optim.Adam` on
    the batches of `batch_order`. The learning rate with the highest validation accuracy after the last epoch, averaged
    over seeds, is chosen; the first one if several are equal.

    x (n, d) float16 or float32, y (n,) int64 in [0, classes), all on one device; products are computed in float32.
    `log(epoch, terms)` is called after every epoch, from 1, with each learning rate's training loss and validation
    accuracy. On CUDA an epoch is one captured graph; `tell` receives None once it is, or the reason why it cannot be.
    Raises ValueError for arrays that do not fit together.
    """
    _check(train_x, train_y, classes, "train")
    _check(validation_x, validation_y, classes, "validation")
    rows = torch.arange(len(train_y))
    if settings.labels_per_class is not None:
        rows = few_labels(train_y, settings.labels_per_class, classes=classes)
    learners = _Learners(settings, train_x, train_y, validation_x, validation_y, images=len(rows), classes=classes)
    work = repeated(learners.epoch, learners.state, train_x.device, tell)
    orders = (rows[batch_order(len(rows), epoch)] for epoch in range(1, settings.epochs + 1))
    order = next(orders, None)
    epoch, validation = 0, dict[float, Accuracy]()
    while order is not None:
        learners.order.copy_(order)
        work()
        epoch, order = epoch + 1, next(orders, None)  # drawn on the host while the device computes
        losses, validation = learners.scores()
        if log is not None:
            log(epoch, _terms(losses, validation))
    best = max(range(len(settings.learning_rates)), key=lambda i: validation[settings.learning_rates[i]].mean)
    chosen = slice(best * len(settings.seeds), (best + 1) * len(settings.seeds))
    everyone = learners.classifier()
    return Selection(
        classifier=Classifier(weight=everyone.weight[chosen].clone(), bias=everyone.bias[chosen].clone()),
        learning_rate=settings.learning_rates[best],
        validation=validation,
    )


def batch_order(images: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits `images` rows: a permutation that depends only on the arguments."""
    return torch.randperm(images, generator=_generator(BATCH_ORDER_SEED, epoch))


def few_labels(labels: Tensor, per_class: int, *, classes: int, seed: int = FEW_LABELS_SEED) -> Tensor:
    """Return the rows (classes x per_class,), ascending, of a random subset with `per_class` images of each class.

    The subset depends only on the labels and the seed. Raises ConfigError if a class has fewer images.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=_generator(seed))
    chosen = []
    for label in range(classes):
        rows = order[labels[order] == label]
        choices = f"at most the {len(rows)} images of class {label}"
        config.require(len(rows) >= per_class, "probe.labels_per_class", per_class, choices)
        chosen.append(rows[:per_class])
    return torch.cat(chosen).sort().values


def _generator(*words: int) -> torch.Generator:
    """Return a CPU generator seeded by all words; torch's own seeding keeps only the lower 32 bits."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(words).generate_state(1)[0]))


def _initial(seed: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return weight (classes, d) and bias (classes,) of a `torch.nn.Linear` made after `torch.manual_seed(seed)`."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.nn.init.kaiming_uniform_(torch.empty(classes, width), a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(width)
    return weight, torch.nn.init.uniform_(torch.empty(classes), -bound, bound, generator=generator)


def _terms(losses: Mapping[float, float], validation: Mapping[float, Accuracy]) -> dict[str, float]:
    terms = {}
    for rate, loss in losses.items():
        terms[f"train_loss/lr{rate:g}"] = loss
        terms[f"validation_accuracy/lr{rate:g}"] = validation[rate].mean
    return terms


class _Stack:
    """Linear learners as the rows of one matrix, and the gradients of their cross-entropies.

    Outputs are (learners, classes, b), with images last: as W x^T, the narrow product is up to four times faster on a
    CPU than as x W^T.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Hold weight (learners, classes, d) and bias (learners, classes), which are updated in place."""
        self.shape = (*bias.shape, -1)
        self.weight, self.bias = weight.flatten(0, 1), bias.flatten()
        self.weight_gradient, self.bias_gradient = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.classes = torch.arange(bias.shape[1], device=bias.device)[:, None]

    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs (learners, classes, b) for float32 x (b, d)."""
        return torch.addmm(self.bias[:, None], self.weight, x.T).view(self.shape)

    def zero_gradient(self) -> None:
        self.weight_gradient.zero_()
        self.bias_gradient.zero_()

    def add_gradient(self, x: Tensor, y: Tensor, images: int) -> Tensor:
        """Add the gradient of sum(cross-entropy) / images over x (b, d), y (b,); return the sums (learners,)."""
        log_probability = self.logits(x).log_softmax(1)
        target = y.expand(self.shape[0], 1, -1)
        at_target = log_probability.gather(1, target)
        # Adding -1 at the targets gives the same bits, but takes some twenty launches on a deterministic GPU.
        one_hot = (self.classes == y).to(log_probability.dtype)
        error = log_probability.exp_().sub_(one_hot).div_(images).flatten(0, 1)
        self.weight_gradient.addmm_(error, x)
        self.bias_gradient.add_(error.sum(1))
        return -at_target.sum((1, 2), dtype=torch.float64)


class _Learners:
    """The probe's learners, ordered by learning rate and then seed, their optimiser, and the buffers of an epoch."""

    def __init__(
        self,
        settings: config.Probe,
        x: Tensor,
        y: Tensor,
        validation_x: Tensor,
        validation_y: Tensor,
        *,
        images: int,
        classes: int,
    ) -> None:
        """Hold training rows, `images` of which an epoch visits, and validation rows."""
        self.settings, width = settings, x.shape[1]
        self.x, self.y, self.validation_x, self.validation_y = x, y, validation_x, validation_y
        initial = [_initial(seed, width, classes) for seed in settings.seeds]
        weight, bias = (torch.stack(part) for part in zip(*initial, strict=True))
        rates, seeds = len(settings.learning_rates), len(settings.seeds)
        self.stack = _Stack(weight.repeat(rates, 1, 1).to(x.device), bias.repeat(rates, 1).to(x.device))
        groups = []
        for i, rate in enumerate(settings.learning_rates):
            rows = slice(i * seeds * classes, (i + 1) * seeds * classes)
            weights, biases = (torch.nn.Parameter(part[rows]) for part in (self.stack.weight, self.stack.bias))
            weights.grad, biases.grad = self.stack.weight_gradient[rows], self.stack.bias_gradient[rows]
            groups.append({"params": [weights, biases], "lr": rate})
        self.optimiser = torch.optim.Adam(groups, fused=True)
        self.block = min(settings.batch_size, BLOCK_ROWS) if x.device.type == "cpu" else settings.batch_size
        # Each block of rows is gathered into the same memory, so that only reading the features leaves the cache.
        self.stored = torch.empty(self.block, width, dtype=x.dtype, device=x.device)
        self.float32 = self.stored if x.dtype == torch.float32 else torch.empty_like(self.stored, dtype=torch.float32)
        self.order = torch.empty(images, dtype=torch.int64, device=x.device)
        """The training rows in the order in which the next epoch visits them."""
        self.sums = torch.zeros(2, rates * seeds, dtype=torch.float64, device=x.device)
        """Results of the last epoch for each learner: sum of cross-entropies, number of correct validation images."""
        self.loss, self.correct = self.sums

    @torch.no_grad()
    def epoch(self) -> None:
        """Take one pass over the rows in `order`, then validate, without synchronising with the host."""
        capturable(self.optimiser)
        self.sums.zero_()
        for batch in self.order.split(self.settings.batch_size):
            self.stack.zero_gradient()
            for rows in batch.split(self.block):
                stored = torch.index_select(self.x, 0, rows, out=self.stored[: len(rows)])
                block = self.float32[: len(rows)]
                if block.dtype != stored.dtype:
                    block.copy_(stored)
                self.loss += self.stack.add_gradient(block, self.y[rows], len(batch))
            self.optimiser.step()
        for part in _slices(self.validation_x):
            predicted = self.stack.logits(self.validation_x[part].float()).argmax(1)
            self.correct += predicted.eq(self.validation_y[part]).sum(1)

    def state(self) -> list[Tensor]:
        """Return every tensor that an epoch passes on to the next one or to `scores`; call it after the first epoch."""
        moments = [value for state in self.optimiser.state.values() for value in state.values()]
        return [self.stack.weight, self.stack.bias, self.sums, *moments]

    def scores(self) -> tuple[dict[float, float], dict[float, Accuracy]]:
        """Return the last epoch's mean training loss and validation accuracy by learning rate, read from it at once."""
        losses, accuracies, seeds = dict[float, float](), dict[float, Accuracy](), len(self.settings.seeds)
        sums, correct = self.sums.tolist()
        for i, rate in enumerate(self.settings.learning_rates):
            of_rate = slice(i * seeds, (i + 1) * seeds)
            losses[rate] = math.fsum(total / len(self.order) for total in sums[of_rate]) / seeds
            accuracies[rate] = Accuracy.counted(correct[of_rate], len(self.validation_y))
        return losses, accuracies

    def classifier(self) -> Classifier:
        """Return a copy of all learners in one classifier, as if each were a seed."""
        weight, bias = (
            part.unflatten(0, self.stack.shape[:2]).clone() for part in (self.stack.weight, self.stack.bias)
        )
        return Classifier(weight=weight, bias=bias)


# ---------------------------------------------------------------------------------- logistic regression


@dataclass(frozen=True, kw_only=True)
class LogisticRegression:
    """A fitted logistic regression; its classifier takes raw features, since it includes their standardisation."""

    classifier: Classifier
    converged: bool
    """Whether the largest component of the gradient fell to the tolerance."""
    iterations: int
    loss: float
    """Mean cross-entropy plus penalty, on the training images."""


def logistic_regression(
    train_x: Tensor,
    train_y: Tensor,
    *,
    classes: int,
    penalty: float = PENALTY,
    tolerance: float = 1e-4,
    max_iterations: int = 1000,
) -> LogisticRegression:
    """Minimise mean cross-entropy + penalty / 2 * |weights|^2 over features standardised by train statistics.

    It has no learning rate, number of epochs or seed, so its accuracy owes nothing to tuning. L-BFGS (Byrd, Lu, Nocedal
    & Zhu 1995, as in SciPy and scikit-learn) starts from zero and runs until the largest component of the gradient is
    at most `tolerance`. The bias is not penalised; features that are constant over the training images are ignored.

    x (n, d) float16 or float32, y (n,) int64 in [0, classes), on one device. It holds a standardised float32 copy of x.
    Raises ValueError for arrays that do not fit together.
    """
    from scipy.optimize import minimize

    _check(train_x, train_y, classes, "train")
    mean, scale = _moments(train_x)
    z = torch.empty(train_x.shape, dtype=torch.float32, device=train_x.device)
    for rows in _slices(train_x):
        torch.sub(train_x[rows], mean, out=z[rows]).mul_(scale)
    objective = _Objective(z, train_y, classes, penalty)

    def stop_when_flat(_: np.ndarray) -> None:
        if objective.steepest <= tolerance:
            raise StopIteration

    # The loss is float32: SciPy's test of its last digits would end the search by chance, so it is off.
    options = {"gtol": 0, "ftol": 0, "maxiter": max_iterations, "maxfun": 4 * max_iterations, "maxls": 50}
    start = np.zeros(classes * (z.shape[1] + 1))
    minimum = minimize(objective, start, jac=True, method="L-BFGS-B", options=options, callback=stop_when_flat)
    loss, _ = objective(minimum.x)
    weight = objective.stack.weight * scale
    return LogisticRegression(
        classifier=Classifier(weight=weight[None], bias=(objective.stack.bias - weight @ mean)[None]),
        converged=objective.steepest <= tolerance,
        iterations=int(minimum.nit),
        loss=loss,
    )


class _Objective:
    """The penalised loss of standardised z (n, d) and its gradient, in SciPy's form.

    Features of one encoder are strongly correlated, so the loss is hundreds of times steeper along their principal
    directions than across, and L-BFGS would take many hundreds of steps. So it is preconditioned: its variables are the
    weights, stretched along the principal directions of a sample of the images, so that the loss curves equally in all
    directions. The minimum is the same, and `steepest`, which decides when to stop, belongs to the weights themselves.
    """

    def __init__(self, z: Tensor, y: Tensor, classes: int, penalty: float) -> None:
        self.z, self.y, self.penalty = z, y, penalty
        self.stack = _Stack(z.new_zeros(1, classes, z.shape[1]), z.new_zeros(1, classes))
        self.steepest = math.inf
        """The largest component of the gradient by weights and biases, at the last evaluation."""
        sample = z[:: math.ceil(len(z) / SAMPLE)]
        variances, left = torch.linalg.eigh(sample @ sample.T / len(sample))
        kept = (variances > 1e-4 * variances[-1]) & (torch.arange(len(sample), device=z.device) >= len(sample) - 128)
        variances, left = variances[kept], left[:, kept]
        self.directions = (left / (variances * len(sample)).sqrt()).T @ sample
        curvatures = variances * (1 - 1 / classes) / classes + penalty
        self.shrink = (curvatures.amin() / curvatures).sqrt() if len(curvatures) else curvatures

    @torch.no_grad()
    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Set the stack to the variables `flat` (classes x (d + 1),); return the loss at them and its gradient."""
        values = torch.from_numpy(flat.astype(np.float32)).to(self.z.device).view(len(self.stack.bias), -1)
        weight = self.stack.weight.copy_(self._stretched(values[:, :-1]))
        self.stack.bias.copy_(values[:, -1])
        self.stack.zero_gradient()
        losses = [self.stack.add_gradient(self.z[rows], self.y[rows], len(self.z)) for rows in _slices(self.z)]
        gradient, by_bias = self.stack.weight_gradient.add_(weight, alpha=self.penalty), self.stack.bias_gradient
        steepest = torch.maximum(gradient.abs().max(), by_bias.abs().max())
        both = torch.cat([self._stretched(gradient), by_bias[:, None]], 1)
        numbers = steepest.double(), torch.cat(losses).sum(), weight.double().square().sum()
        read = (
            torch.cat([torch.stack(numbers), both.flatten().double()]).cpu().numpy()
        )  # read once, since the device waits at each read
        self.steepest, loss, square = read[:3].tolist()
        return loss / len(self.z) + self.penalty / 2 * square, read[3:]

    def _stretched(self, weight: Tensor) -> Tensor:
        """Return weight (classes, d), shrunk along the directions; the map is symmetric, so gradients use it too."""
        along = weight @ self.directions.T
        return torch.addmm(weight, along * (self.shrink - 1), self.directions)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means (d,) and the reciprocal standard deviations (d,), 0 for a constant feature, float32."""
    total = sum(x[rows].float().sum(0).double() for rows in _slices(x))
    mean = (torch.as_tensor(total) / len(x)).float()
    squares = sum((x[rows].float() - mean).square_().sum(0).double() for rows in _slices(x))
    deviation = (torch.as_tensor(squares) / len(x)).sqrt().float()
    # The mean of a constant feature may be rounded, which leaves a deviation of the order of float32's resolution.
    constant = deviation <= 1e-6 * mean.abs()
    return mean, torch.where(constant, 0, 1 / deviation)


# ---------------------------------------------------------------------------------- arrays


def _slices(x: Tensor) -> Iterator[slice]:
    """Yield blocks of rows that fit in the cache of a CPU; large ones on other devices, where each costs a launch."""
    step = BLOCK_ROWS if x.device.type == "cpu" else 8192
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def _check(x: Tensor, y: Tensor, classes: int, name: str) -> None:
    """Raise ValueError unless x is (n, d) float16 or float32 and y is (n,) int64 in [0, classes), n at least 1."""
    if x.ndim != 2 or not len(x) or x.dtype not in (torch.float16, torch.float32):
        raise ValueError(
            f"{name} features are {tuple(x.shape)} {x.dtype}: give (n, d) float16 or float32, n at least 1"
        )
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"{name} labels are {tuple(y.shape)} {y.dtype}: give ({len(x)},) int64, one for each image")
    lowest, highest = y.aminmax()
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"{name} labels are {int(lowest)} to {int(highest)}: give 0 to {classes - 1} (classes={classes})"
        )
