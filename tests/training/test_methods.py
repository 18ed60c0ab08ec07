"""What every method promises the loop, and what each computes, worked out by hand."""

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.config import Method, Networks
from dae_ssl.distributed import World
from dae_ssl.training.losses import CONTRAST, EMBEDDING, RECONSTRUCTION
from dae_ssl.training.methods.base import SelfSupervised

ALONE = World(0, 1, torch.device("cpu"))
SMALL = Networks(embedding_size=16)
IMAGES = 4

# Every trained method with settings under which all of its terms are there.
GIVEN: dict[str, dict[str, Any]] = {
    "dae": {"embedding": "l2", "alpha": 2},
    "ae": {"embedding": "ncs", "alpha": 0.5},
    "simclr": {},
    "simsiam": {},
    "layerwise_dae": {},
    "single_view_dae": {},
    "single_view_ae": {},
}
TERMS = {
    "dae": {"loss", "reconstruction", "embedding"},
    "ae": {"loss", "reconstruction", "embedding"},
    "simclr": {"loss", "embedding"},
    "simsiam": {"loss", "embedding"},
    "layerwise_dae": {"loss", "reconstruction"},
    "single_view_dae": {"loss", "reconstruction"},
    "single_view_ae": {"loss", "reconstruction"},
}


def build(name: str, **given: Any) -> SelfSupervised:
    method = config.method(name, GIVEN[name] | given)
    assert isinstance(method, SelfSupervised)
    return method


def images() -> tuple[Tensor, Tensor, Tensor]:
    """Return clean images and two views, all different."""
    generator = torch.Generator().manual_seed(0)
    clean, view1, view2 = (torch.rand(IMAGES, 3, 32, 32, generator=generator) for _ in range(3))
    return clean, view1, view2


def forward(method: SelfSupervised, networks: nn.ModuleDict, *given: Tensor) -> Mapping[str, Tensor]:
    settings = Networks(embedding_size=networks["projector"].out_features)
    weights = {name: torch.tensor(value) for name, value in method.weights(settings).items()}
    return method.forward(networks, *(given or images()), weights, ALONE)


def through(networks: nn.ModuleDict, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return embedding and reconstruction, one view at a time."""
    z = networks["projector"](networks["encoder"](seen))
    return z, networks["decoder"](z)


def squared(one: Tensor, other: Tensor) -> Tensor:
    return ((one - other) ** 2).sum() / one.numel()


def close(term: Tensor, expected: Tensor | float) -> bool:
    expected = expected.item() if isinstance(expected, Tensor) else expected
    return term.item() == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------------------------- contracts over every method


def test_every_trained_method_is_under_contract() -> None:
    trained = {name for name, kind in Method.registry.items() if kind.trains}
    assert trained == set(GIVEN) == set(TERMS), "give a new method its settings and terms"
    assert all(issubclass(Method.registry[name], SelfSupervised) for name in trained)


@pytest.mark.parametrize("name", Method.registry)
def test_method_survives_being_written_as_plain_values(name: str) -> None:
    method = config.method(name, GIVEN.get(name, {}))
    plain = config.settings(method)
    assert plain.pop("name") == name
    assert config.method(name, plain) == method
    assert config.cell(method={"name": name} | plain).method == method
    assert method.normalised().normalised() == method.normalised()


@pytest.mark.parametrize("name", GIVEN)
def test_terms_are_finite_scalars_with_the_loss_among_them(name: str) -> None:
    method = build(name)
    terms = forward(method, method.networks(SMALL, seed=0))
    assert set(terms) == TERMS[name]
    for term in terms.values():
        assert term.shape == ()
        assert term.dtype == torch.float32
        assert torch.isfinite(term)


@pytest.mark.parametrize("name", GIVEN)
def test_gradient_of_the_loss_reaches_every_parameter(name: str) -> None:
    method = build(name)
    networks = method.networks(SMALL, seed=0)
    forward(method, networks)["loss"].backward()
    known = {"encoder", "projector", *(["decoder"] if method.decodes else []), *method.further_networks(SMALL)}
    assert set(networks) == known
    for parameter_name, parameter in networks.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # A contrast of cosines leaves the size of an embedding free, but not what is in it.
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", GIVEN)
def test_same_weights_and_images_give_the_same_bits(name: str) -> None:
    method = build(name)
    gradients = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        networks = method.networks(SMALL, seed=7)
        loss = forward(method, networks)["loss"]
        loss.backward()
        gradients.append(torch.cat([loss[None], *(p.grad.flatten() for p in networks.parameters())]).detach())
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", GIVEN)
def test_method_does_not_change_its_images(name: str) -> None:
    method, given = build(name), images()
    before = [image.clone() for image in given]
    forward(method, method.networks(SMALL, seed=0), *given)["loss"].backward()
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


@pytest.mark.parametrize("name", GIVEN)
def test_few_steps_of_adam_lower_the_loss(name: str) -> None:
    method = build(name)
    networks = method.networks(SMALL, seed=0)
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-4)
    losses = []
    for _ in range(8):
        loss = forward(method, networks)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", GIVEN)
def test_terms_under_bfloat16_are_float32_and_nearly_the_same(name: str) -> None:
    method = build(name)
    networks = method.networks(SMALL, seed=0)
    exact = forward(method, networks)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = forward(method, networks)
    for term, value in narrow.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[term].item(), rel=0.05)


# ---------------------------------------------------------------------------------- what registering takes

WITHOUT_TORCH = """
import json, sys
for heavy in ("torch", "numpy"):
    sys.modules[heavy] = None  # importing it is an ImportError from now on
import dae_ssl.training.methods
from dae_ssl import config
from dae_ssl.training import losses
tables = [losses.RECONSTRUCTION, losses.EMBEDDING, losses.CONTRAST, config.Method.registry]
told = []
for given in json.loads(sys.argv[1]):
    try:
        told.append(config.cell_key(config.cell(method=given)))
    except config.ConfigError as error:
        told.append(str(error))
print(json.dumps([[sorted(table) for table in tables], told]))
"""


def test_methods_losses_and_what_they_refuse_are_known_where_there_is_no_torch() -> None:
    possible: list[dict[str, Any]] = [{"name": name} | given for name, given in GIVEN.items()]
    refused = {"name": "dae", "embedding": "l7", "alpha": 1}
    asked = json.dumps([*possible, refused])
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables, (*keys, told) = json.loads(done.stdout)
    assert tables == [sorted(table) for table in (RECONSTRUCTION, EMBEDDING, CONTRAST, Method.registry)]
    assert keys == [config.cell_key(config.cell(method=given)) for given in possible]
    assert told.startswith("method.embedding='l7': choose none, l1, ")


OF_SOMEBODY_ELSE = """
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dae_ssl.distributed import World
from dae_ssl.training.losses import RECONSTRUCTION
from dae_ssl.training.methods.base import SelfSupervised


@dataclass(frozen=True, kw_only=True)
class Mine(SelfSupervised, name="of_somebody_else"):
    power: float = 2.0

    def forward(self, networks: nn.ModuleDict, clean: Tensor, view1: Tensor, view2: Tensor,
                weights: Mapping[str, Tensor], world: World) -> Mapping[str, Tensor]:
        output = networks["decoder"](networks["projector"](networks["encoder"](view1)))
        loss = RECONSTRUCTION["l2"](torch.pow(output, self.power), clean)
        return {"loss": loss, "reconstruction": loss}
"""


def test_method_of_somebody_else_that_imports_torch_at_its_top_registers_and_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Method, "registry", dict(Method.registry))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "of_somebody_else.py").write_text(OF_SOMEBODY_ELSE)
    importlib.import_module("of_somebody_else")
    method = config.cell(method={"name": "of_somebody_else", "power": 3}).method
    assert isinstance(method, SelfSupervised)
    networks = method.networks(SMALL, seed=0)
    clean, view1, _ = images()
    assert close(forward(method, networks)["loss"], squared(through(networks, view1)[1] ** 3, clean))


# ---------------------------------------------------------------------------------- by hand


def test_denoising_compares_with_the_clean_image_and_non_denoising_with_its_own_view() -> None:
    clean, view1, view2 = images()
    for name, (target1, target2) in {"dae": (clean, clean), "ae": (view1, view2)}.items():
        method = build(name, alpha=0)
        networks = method.networks(SMALL, seed=0)
        (_, x1), (_, x2) = through(networks, view1), through(networks, view2)
        terms = forward(method, networks)
        assert close(terms["reconstruction"], squared(x1, target1) + squared(x2, target2))
        assert terms["loss"].item() == terms["reconstruction"].item()
        assert set(terms) == {"loss", "reconstruction"}


@pytest.mark.parametrize("embedding", EMBEDDING)
@pytest.mark.parametrize("name", ["dae", "ae"])
def test_embedding_loss_is_weighed_by_alpha_over_d(name: str, embedding: str) -> None:
    _, view1, view2 = images()
    for alpha, width in ((3.0, 16), (0.25, 5)):
        method = build(name, embedding=embedding, alpha=alpha)
        networks = method.networks(Networks(embedding_size=width), seed=0)
        (z1, _), (z2, _) = through(networks, view1), through(networks, view2)
        terms = forward(method, networks)
        assert close(terms["embedding"], EMBEDDING[embedding](z1, z2, ALONE))
        assert terms["loss"].item() == (terms["reconstruction"] + alpha / width * terms["embedding"]).item()
        assert close(terms["loss"], terms["reconstruction"].item() + alpha / width * terms["embedding"].item())


@pytest.mark.parametrize("name", ["dae", "ae"])
def test_alpha_0_is_the_plain_autoencoder_whatever_the_embedding_loss(name: str) -> None:
    plain = build(name, embedding="none", alpha=0)
    networks = plain.networks(SMALL, seed=0)
    expected = forward(plain, networks)["loss"].item()
    for embedding in EMBEDDING:
        method = build(name, embedding=embedding, alpha=0)
        assert forward(method, networks)["loss"].item() == expected
        assert method.normalised() == plain


def test_views_exchanged_give_the_same_siamese_loss_but_clean_and_view_do_not() -> None:
    clean, view1, view2 = images()
    method = build("dae")
    networks = method.networks(SMALL, seed=0)
    expected = forward(method, networks, clean, view1, view2)["loss"]
    assert close(forward(method, networks, clean, view2, view1)["loss"], expected)
    assert not close(forward(method, networks, view1, clean, view2)["loss"], expected)


@pytest.mark.parametrize("contrast", CONTRAST)
def test_simclr_contrasts_the_two_views_embeddings_and_nothing_else(contrast: str) -> None:
    clean, view1, view2 = images()
    method = build("simclr", contrast=contrast, temperature=0.2)
    networks = method.networks(SMALL, seed=0)
    z1, z2 = (networks["projector"](networks["encoder"](view)) for view in (view1, view2))
    terms = forward(method, networks)
    assert close(terms["loss"], CONTRAST[contrast](z1, z2, 0.2, ALONE))
    assert terms["embedding"].item() == terms["loss"].item()
    assert forward(method, networks, 1 - clean, view1, view2)["loss"].item() == terms["loss"].item()
    assert "decoder" not in networks


def test_single_view_methods_reconstruct_the_clean_image_from_the_first_view_or_itself() -> None:
    clean, view1, view2 = images()
    for name, seen in {"single_view_dae": view1, "single_view_ae": clean}.items():
        method = build(name)
        networks = method.networks(SMALL, seed=0)
        terms = forward(method, networks)
        assert close(terms["loss"], squared(through(networks, seen)[1], clean))
        assert forward(method, networks, clean, view1, 1 - view2)["loss"].item() == terms["loss"].item()
    assert not Method.registry["single_view_ae"].augments
    method = build("single_view_ae")
    networks = method.networks(SMALL, seed=0)
    one, other = (forward(method, networks, clean, v, v)["loss"] for v in (view1, view2))
    assert one.item() == other.item()


def test_simsiam_predicts_each_view_from_the_other_which_is_held_still() -> None:
    clean, view1, view2 = images()
    method = build("simsiam")
    networks = method.networks(SMALL, seed=0)
    z1, z2 = (networks["projector"](networks["encoder"](view)) for view in (view1, view2))
    p1, p2 = networks["predictor"](z1), networks["predictor"](z2)
    cosine = nn.functional.cosine_similarity
    expected = -(cosine(p1, z2.detach()).mean() + cosine(p2, z1.detach()).mean()) / 2
    loss = forward(method, networks, clean, view1, view2)["loss"]
    assert close(loss, expected)
    mine, theirs = (torch.autograd.grad(value, list(networks.parameters())) for value in (loss, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_layerwise_gradient_of_a_layer_is_that_of_its_own_loss_with_all_other_layers_held() -> None:
    """Layer by layer, as the published code trains them: an autoencoder of the outer layers, the innermost learning."""
    clean, view1, _ = images()
    method = build("layerwise_dae")
    networks = method.networks(SMALL, seed=0)
    terms = forward(method, networks)
    terms["loss"].backward()
    found = {name: parameter.grad.clone() for name, parameter in networks.named_parameters()}
    encoder = [*networks["encoder"], networks["projector"]]
    decoder = list(networks["decoder"])
    losses = []
    for depth in range(1, 7):
        networks.zero_grad()
        inward, outward = encoder[: 2 * depth], decoder[len(decoder) - 2 * depth :]
        loss = squared(nn.Sequential(*inward, *outward)(view1), clean)
        losses.append(loss.item())
        loss.backward()
        for layer in (*inward[-2:], *outward[:2]):
            for parameter in layer.parameters():
                (name,) = [n for n, p in networks.named_parameters() if p is parameter]
                torch.testing.assert_close(found.pop(name), parameter.grad, rtol=1e-4, atol=1e-7)
    assert not found, "every parameter belongs to a layer"
    assert close(terms["loss"], sum(losses))
    assert close(terms["reconstruction"], losses[-1])
    assert close(terms["reconstruction"], squared(through(networks, view1)[1], clean))


def test_floors_have_nothing_to_train() -> None:
    floors = {name for name, kind in Method.registry.items() if not kind.trains}
    assert floors == {"random", "pixels"}
    assert Method.registry["random"].has_encoder
    assert not Method.registry["pixels"].has_encoder


@pytest.mark.parametrize("contrast", ["nt_xent", "published_contrast"])
def test_contrast_is_computed_in_float32_whatever_the_networks_compute_in(contrast: str) -> None:
    networks = nn.ModuleDict({"encoder": nn.Flatten(), "projector": nn.Identity()})
    view1, view2 = (torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(2))
    simclr = config.method("simclr", {"contrast": contrast})
    alone = World(0, 1, torch.device("cpu"))
    plain = simclr.forward(networks, view1, view1, view2, {}, alone)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(simclr.forward(networks, view1, view1, view2, {}, alone)["loss"], plain)
