"""Every loss against a slow, obvious oracle written from its formula."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import ConfigError
from dae_ssl.distributed import World
from dae_ssl.training import losses
from dae_ssl.training.losses import CONTRAST, EMBEDDING, RECONSTRUCTION, Pairwise

ALONE = World(0, 1, torch.device("cpu"))
Vector = Sequence[float]


def embeddings(count: int = 6, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two views' embeddings, float64."""
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(count, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return z1, z2


# ---------------------------------------------------------------------------------- oracles: loops over plain numbers


def dot(u: Vector, v: Vector) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def cosine(u: Vector, v: Vector) -> float:
    return dot(u, v) / (math.sqrt(dot(u, u)) * math.sqrt(dot(v, v)))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def absolute(u: Vector, v: Vector) -> float:
    return mean([abs(a - b) for a, b in zip(u, v, strict=True)])


def squared(u: Vector, v: Vector) -> float:
    return mean([(a - b) ** 2 for a, b in zip(u, v, strict=True)])


# One row per embedding loss: what one pair of embeddings costs, and how the costs of a batch are put together.
EMBEDDING_ORACLES: dict[str, tuple[Callable[[Vector, Vector], float], Callable[[Sequence[float]], float]]] = {
    "l1": (absolute, mean),
    "l2": (squared, mean),
    "ncs": (lambda u, v: -cosine(u, v), mean),
    "repelling_cosine": (cosine, sum),  # equation 7, and the published code
}
# One row per reconstruction loss, over all elements of the batch.
RECONSTRUCTION_ORACLES: dict[str, Callable[[Vector, Vector], float]] = {"l2": squared}


def nt_xent_oracle(z1: list[Vector], z2: list[Vector], temperature: float) -> float:
    """Chen et al. 2020: equation 1 for every positive pair (i, j) and (j, i) among 2 N embeddings, averaged."""
    z = [pair[k] for pair in zip(z1, z2, strict=True) for k in (0, 1)]  # x_2k-1 and x_2k are views of one image

    def pair_loss(i: int, j: int) -> float:
        others = sum(math.exp(cosine(z[i], z[k]) / temperature) for k in range(len(z)) if k != i)
        return -math.log(math.exp(cosine(z[i], z[j]) / temperature) / others)

    n = len(z1)
    return sum(pair_loss(2 * k, 2 * k + 1) + pair_loss(2 * k + 1, 2 * k) for k in range(n)) / (2 * n)


def published_contrast_oracle(z1: list[Vector], z2: list[Vector], _temperature: float) -> float:
    """The published code's formula, its matrices spelt out; it subtracts the diagonals, so that exp(0) = 1 stays."""

    def s(u: Vector, v: Vector) -> float:
        return dot(u, v) / ((math.sqrt(dot(u, u)) + 0.001) * (math.sqrt(dot(v, v)) + 0.001))

    n = len(z1)
    cov12 = [[s(u, v) for v in z2] for u in z1]
    cov11 = [[0.0 if i == j else s(z1[i], z1[j]) for j in range(n)] for i in range(n)]
    cov22 = [[0.0 if i == j else s(z2[i], z2[j]) for j in range(n)] for i in range(n)]
    total = 0.0
    for i in range(n):
        across, first, second = (sum(math.exp(value) for value in m[i]) for m in (cov12, cov11, cov22))
        total += 0.5 * (math.log(across + first) + math.log(across + second)) - cov12[i][i]
    return total / n


def barlow_twins_oracle(z1: list[Vector], z2: list[Vector]) -> float:
    """Zbontar et al. 2021, equations 1 and 2, with lambda = 0.005, one pair of dimensions at a time."""

    def standardised(values: Vector) -> Vector:
        deviation = math.sqrt(mean([(value - mean(values)) ** 2 for value in values]))
        return [(value - mean(values)) / deviation for value in values]

    columns1, columns2 = ([standardised(column) for column in zip(*z, strict=True)] for z in (z1, z2))
    total = 0.0
    for i, u in enumerate(columns1):
        for j, v in enumerate(columns2):
            correlation = dot(u, v) / len(z1)
            total += (1 - correlation) ** 2 if i == j else 0.005 * correlation**2
    return total


# One row per embedding loss that looks at the whole batch.
BATCH_EMBEDDING_ORACLES: dict[str, Callable[[list[Vector], list[Vector]], float]] = {
    "nt_xent": lambda z1, z2: nt_xent_oracle(z1, z2, 0.5),
    "barlow_twins": barlow_twins_oracle,
}
CONTRAST_ORACLES = {"nt_xent": nt_xent_oracle, "published_contrast": published_contrast_oracle}


# ---------------------------------------------------------------------------------- contracts


def test_every_loss_has_an_oracle() -> None:
    pairwise = {name for name, loss in EMBEDDING.items() if isinstance(loss, Pairwise)}
    assert pairwise == set(EMBEDDING_ORACLES), "give a new embedding loss a row"
    assert set(EMBEDDING) - pairwise == set(BATCH_EMBEDDING_ORACLES), "give a new embedding loss a row"
    assert set(RECONSTRUCTION) == set(RECONSTRUCTION_ORACLES), "give a new reconstruction loss a row"
    assert set(CONTRAST) == set(CONTRAST_ORACLES), "give a new contrastive loss an oracle"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", EMBEDDING_ORACLES)
def test_embedding_loss_equals_its_oracle(name: str, seed: int) -> None:
    z1, z2 = embeddings(seed=seed)
    per_pair, together = EMBEDDING_ORACLES[name]
    costs = [per_pair(u, v) for u, v in zip(z1.tolist(), z2.tolist(), strict=True)]
    loss = EMBEDDING[name]
    assert isinstance(loss, Pairwise)
    assert loss.per_image(z1, z2).tolist() == pytest.approx(costs, rel=1e-12)
    assert EMBEDDING[name](z1, z2, ALONE).item() == pytest.approx(together(costs), rel=1e-12)


@pytest.mark.parametrize("name", EMBEDDING_ORACLES)
@pytest.mark.parametrize("ranks", [2, 3])
def test_mean_over_ranks_is_the_embedding_loss_of_the_global_batch(name: str, ranks: int) -> None:
    z1, z2 = embeddings()
    worlds = [World(rank, ranks, torch.device("cpu")) for rank in range(ranks)]
    parts = [EMBEDDING[name](z1[w.share(6)], z2[w.share(6)], w).item() for w in worlds]
    assert mean(parts) == pytest.approx(EMBEDDING[name](z1, z2, ALONE).item(), rel=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", BATCH_EMBEDDING_ORACLES)
def test_embedding_loss_of_a_whole_batch_equals_its_oracle(name: str, seed: int) -> None:
    z1, z2 = embeddings(seed=seed)
    expected = BATCH_EMBEDDING_ORACLES[name](z1.tolist(), z2.tolist())
    assert EMBEDDING[name](z1, z2, ALONE).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", RECONSTRUCTION_ORACLES)
def test_reconstruction_loss_equals_its_oracle(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(3, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = RECONSTRUCTION_ORACLES[name](one.flatten().tolist(), other.flatten().tolist())
    assert RECONSTRUCTION[name](one, other).item() == pytest.approx(expected, rel=1e-12)
    assert RECONSTRUCTION[name](one, one).item() == 0


@pytest.mark.parametrize("count", [2, 6])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("name", CONTRAST_ORACLES)
def test_contrast_equals_its_oracle(name: str, temperature: float, count: int) -> None:
    z1, z2 = embeddings(count)
    expected = CONTRAST_ORACLES[name](z1.tolist(), z2.tolist(), temperature)
    assert CONTRAST[name](z1, z2, temperature, ALONE).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", [*EMBEDDING, *CONTRAST])
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    z1, z2 = (z.requires_grad_() for z in embeddings(4))

    def loss(z1: Tensor, z2: Tensor) -> Tensor:
        return EMBEDDING[name](z1, z2, ALONE) if name in EMBEDDING else CONTRAST[name](z1, z2, 0.5, ALONE)

    assert torch.autograd.gradcheck(loss, (z1, z2))


@pytest.mark.parametrize("name", [*EMBEDDING, *CONTRAST])
def test_collapsed_embeddings_give_finite_loss_and_gradient(name: str) -> None:
    for z in (torch.zeros(4, 5), torch.ones(4, 5)):
        z1, z2 = z.clone().requires_grad_(), z.clone().requires_grad_()
        loss = EMBEDDING[name](z1, z2, ALONE) if name in EMBEDDING else CONTRAST[name](z1, z2, 0.5, ALONE)
        loss.backward()
        for value in (loss, z1.grad, z2.grad):
            assert value is not None
            assert torch.isfinite(value).all()


# ---------------------------------------------------------------------------------- what the names say


def test_minimising_negative_cosine_draws_views_together_and_repelling_cosine_apart() -> None:
    z1, z2 = embeddings()
    assert EMBEDDING["ncs"](z1, 3 * z1, ALONE).item() == pytest.approx(-1)
    assert EMBEDDING["ncs"](z1, -z1, ALONE).item() == pytest.approx(1)
    assert EMBEDDING["repelling_cosine"](z1, 3 * z1, ALONE).item() == pytest.approx(len(z1))
    ncs, repelling = (EMBEDDING[name](z1, z2, ALONE).item() for name in ("ncs", "repelling_cosine"))
    assert repelling == pytest.approx(-ncs * len(z1))


def test_barlow_twins_is_least_for_views_that_agree_in_dimensions_that_are_unrelated() -> None:
    hadamard = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert EMBEDDING["barlow_twins"](hadamard, 7 * hadamard + 2, ALONE).item() == pytest.approx(0, abs=1e-12)
    assert EMBEDDING["barlow_twins"](hadamard, -hadamard, ALONE).item() == pytest.approx(3 * 4)
    alike = hadamard[:, :1].expand(-1, 3)
    assert EMBEDDING["barlow_twins"](alike, alike, ALONE).item() == pytest.approx(0.005 * 6)


def test_nt_xent_of_indistinguishable_embeddings_is_the_logarithm_of_the_candidates() -> None:
    z = torch.ones(8, 4)
    assert CONTRAST["nt_xent"](z, z, 0.5, ALONE).item() == pytest.approx(math.log(15))


def test_nt_xent_stays_finite_at_a_low_temperature_in_float32() -> None:
    z1, z2 = (z.float().requires_grad_() for z in embeddings(64, 16))
    loss = CONTRAST["nt_xent"](z1, z2, 0.005, ALONE)
    loss.backward()
    assert torch.isfinite(loss)
    assert z1.grad is not None
    assert torch.isfinite(z1.grad).all()


# ---------------------------------------------------------------------------------- losses of somebody else


def test_loss_of_ones_own_is_registered_and_known_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDING, "mine", None)  # gone afterwards

    def mine(z1: Tensor, z2: Tensor) -> Tensor:
        return (z1 - z2).abs().amax(1)

    assert losses.embedding("sum")(mine) is mine
    losses.embedding()(mine)  # as where a notebook runs its cell again
    assert EMBEDDING["mine"] == Pairwise(mine, "mean")
    method = config.method("dae", {"embedding": "mine", "alpha": 1})
    assert losses.origins(method) == {__name__: "mine", losses.__name__: "l2"}
    with pytest.raises(config.ConfigError, match="reduction='max': choose mean or sum"):
        losses.embedding("max")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_embedding_loss_that_returns_another_shape_is_one_line(reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "EMBEDDING", dict(losses.EMBEDDING))

    @losses.embedding(reduction)
    def unreduced(z1: Tensor, z2: Tensor) -> Tensor:
        return (z1 - z2).abs()

    z = torch.zeros(5, 4)
    with pytest.raises(
        ConfigError, match=r"^the embedding loss unreduced returned \(5, 4\) for 5 pairs: return \(5,\)$"
    ):
        losses.EMBEDDING["unreduced"](z, z, World(0, 1, torch.device("cpu")))


def test_name_of_another_modules_loss_is_refused() -> None:
    def l2(z1: Tensor, z2: Tensor) -> Tensor:
        return (z1 - z2).square().sum(1)

    with pytest.raises(config.ConfigError, match="loss='l2': choose a name that no other module has registered"):
        losses.embedding()(l2)
    assert EMBEDDING["l2"] != Pairwise(l2, "mean")
