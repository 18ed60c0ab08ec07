"""What is looked at while networks train: signs of collapse."""

import math

import pytest
import torch
from torch import nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Networks, Optimisation
from dae_ssl.training.monitor import collapse_signs, effective_rank, is_looked_at


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [10, 300])  # fewer and more columns than rows
@pytest.mark.parametrize("rank", [1, 2, 7])
def test_effective_rank_of_equal_singular_values_is_their_number(rank: int, width: int) -> None:
    plain = rows(100, rank + 1).double()
    plain[:, 0] = 1  # the first column of Q is constant, so that the others have mean zero
    left = torch.linalg.qr(plain)[0][:, 1:]
    right = torch.linalg.qr(rows(width, rank, seed=1).double())[0]
    assert effective_rank(3 * left @ right.T + 5) == pytest.approx(rank, rel=1e-3)


def test_effective_rank_is_that_of_the_singular_values() -> None:
    for shape in ((40, 12), (12, 40)):
        x = rows(*shape) * torch.linspace(0.1, 3, shape[1])
        values = torch.linalg.svdvals(x - x.mean(0)).double()
        shares = [v / values.sum().item() for v in values.tolist() if v > 1e-5]
        assert effective_rank(x) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-4)


@pytest.mark.parametrize("shape", [(500, 64), (64, 8192)])
def test_effective_rank_of_a_line_is_1_and_of_a_point_0(shape: tuple[int, int]) -> None:
    line = rows(shape[0], 1) * rows(1, shape[1], seed=1)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(rows(1, shape[1]).expand(shape)) == 0
    assert effective_rank(torch.zeros(shape)) == 0


def test_collapse_shows_as_no_spread_and_no_rank() -> None:
    built = config.method("dae", {}).networks(Networks(), seed=0)
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    healthy = collapse_signs(built, images)
    assert healthy["embedding_std"] > 0.05
    assert healthy["embedding_effective_rank"] > 5
    with torch.no_grad():
        built["projector"].weight.zero_()
        built["projector"].bias.fill_(1)
    collapsed = collapse_signs(built, images)
    assert collapsed["embedding_std"] == pytest.approx(0, abs=1e-6)
    assert collapsed["embedding_effective_rank"] == 0
    assert collapsed["representation_effective_rank"] == healthy["representation_effective_rank"]


def test_embeddings_that_fill_the_sphere_have_spread_1() -> None:
    class Given(nn.Module):
        def forward(self, _images: torch.Tensor) -> torch.Tensor:
            return rows(4000, 64)

    parts = nn.ModuleDict({"encoder": Given(), "projector": nn.Identity()})
    signs = collapse_signs(parts, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert signs["embedding_std"] == pytest.approx(1, abs=0.01)


def test_signs_of_collapse_are_looked_for_after_every_epoch_at_first_then_every_tenth_and_each_kept_one() -> None:
    settings = Optimisation(epochs=105, checkpoints=(33,))
    looked_at = [epoch for epoch in range(1, 106) if is_looked_at(epoch, settings)]
    assert looked_at == [*range(1, 21), 30, 33, 40, 50, 60, 70, 80, 90, 100, 105]
