"""What is drawn follows Table 1 and a published generator; what is rendered agrees with torchvision image by image."""

import dataclasses

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from scipy import stats

from dae_ssl import config
from dae_ssl.training import views
from tests.viewed import (
    EVERYTHING,
    ORDERS,
    SIZE,
    STILL,
    assert_close_but_at_the_threshold,
    draw,
    example_images,
    in_all_orders,
)

CHANCE = 1e-4
"""Least p-value of the tests of distributions: there are dozens, at fixed seeds, and a wrong one is far below."""
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def fields(parameters):
    return {field.name: getattr(parameters, field.name) for field in dataclasses.fields(parameters)}


def same(one, other):
    return all(torch.equal(value, fields(other)[name].to(value.device)) for name, value in fields(one).items())


@pytest.fixture(scope="module")
def images():
    return example_images()


# ---------------------------------------------------------------------------------- the generator


# Random123, tests/kat_vectors: philox4x32, 10 rounds; counter, key, expected.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexadecimal(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_cuda])])
@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, expected, device):
    counter = tuple(torch.tensor([word], device=device) for word in hexadecimal(counter))
    k0, k1 = hexadecimal(key)
    assert [word.item() for word in views.philox(counter, (k0, k1))] == hexadecimal(expected)


def philox_in_plain_integers(c, k):
    for _ in range(10):
        p0, p2 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [p2 >> 32 ^ c[1] ^ k[0], p2 % 2**32, p0 >> 32 ^ c[3] ^ k[1], p0 % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def test_philox_agrees_with_plain_integers_on_many_counters():
    generator = torch.Generator().manual_seed(1)
    counters = torch.randint(0, 2**32, (200, 4), generator=generator)
    words = torch.stack(views.philox(counters.unbind(1), (123456789, 2**32 - 5)), dim=1)
    assert words.tolist() == [philox_in_plain_integers(c, [123456789, 2**32 - 5]) for c in counters.tolist()]


# ---------------------------------------------------------------------------------- the order of images


def test_permutation_holds_every_image_once_and_changes_with_epoch_and_seed():
    order = views.permutation(1000, seed=3, epoch=5)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, views.permutation(1000, seed=3, epoch=5))
    for seed, epoch in ((3, 6), (4, 5), (5, 3)):
        other = views.permutation(1000, seed=seed, epoch=epoch)
        assert (order == other).sum() < 10
        assert abs(stats.spearmanr(order, other).statistic) < 0.1


def test_every_image_is_as_likely_anywhere_in_the_order():
    first = torch.stack([views.permutation(8, seed=0, epoch=epoch) for epoch in range(800)])
    for place in range(8):
        assert stats.chisquare(first[:, place].bincount(minlength=8)).pvalue > CHANCE


def test_images_with_equal_keys_stay_in_the_order_of_their_index(monkeypatch):
    monkeypatch.setattr(views, "_words", lambda indices, **_: torch.zeros(len(indices), 4, dtype=torch.int64))
    assert torch.equal(views.permutation(50, seed=0, epoch=0), torch.arange(50))


def test_order_of_images_shares_no_numbers_with_their_views():
    n = 20000
    place = views.permutation(n, seed=0, epoch=0).argsort()
    for name, values in uniforms(draw(config.Views(crop=1), n=n)).items():
        assert abs(stats.spearmanr(place, values).statistic) < 4 / n**0.5, name


# ---------------------------------------------------------------------------------- what is drawn


def uniforms(parameters):
    return {name: values for name, values in fields(parameters).items() if name not in ("order", "flip", "solarize")}


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, 1.5])
def test_jitter_is_uniform_over_the_ranges_of_color_jitter(strength):
    parameters = draw(config.Views(jitter=strength), n=20000)
    low, high = max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength
    for values, (a, b) in (
        (parameters.brightness, (low, high)),
        (parameters.contrast, (low, high)),
        (parameters.saturation, (low, high)),
        (parameters.hue, (-0.2 * strength, 0.2 * strength)),
    ):
        assert values.dtype == torch.float32
        assert a - 1e-6 <= values.min()
        assert values.max() <= b + 1e-6
        if strength:
            assert stats.kstest(values, stats.uniform(a, b - a).cdf).pvalue > CHANCE


def test_blur_sigma_is_uniform_from_a_tenth_to_two():
    sigma = draw(n=20000).blur_sigma
    assert stats.kstest(sigma, stats.uniform(0.1, 1.9).cdf).pvalue > CHANCE


@pytest.mark.parametrize("crop", [4, 24, 28, 31, 32])
def test_every_place_of_the_crop_is_equally_likely_and_no_other(crop):
    parameters, places = draw(config.Views(crop=crop), n=40000), SIZE - crop + 1
    for values in (parameters.top, parameters.left):
        counts = values.bincount()
        assert len(counts) == places
        assert places == 1 or stats.chisquare(counts).pvalue > CHANCE
    if crop == 28:
        both = (parameters.top * places + parameters.left).bincount(minlength=places**2)
        assert stats.chisquare(both).pvalue > CHANCE


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
def test_flips_and_solarizings_are_as_frequent_as_asked(probability):
    parameters = draw(config.Views(flip=probability, solarize=probability), n=20000)
    for values in (parameters.flip, parameters.solarize):
        assert values.dtype == torch.bool
        if probability in (0.0, 1.0):
            assert values.float().mean() == probability
        else:
            assert stats.binomtest(int(values.sum()), 20000, probability).pvalue > CHANCE


def test_all_orders_of_jitter_are_equally_likely():
    orders = draw(n=24000).order
    number = {order: i for i, order in enumerate(ORDERS)}
    counts = torch.tensor([number[tuple(order)] for order in orders.tolist()]).bincount(minlength=24)
    assert stats.chisquare(counts).pvalue > CHANCE


@pytest.mark.parametrize(
    "other",
    [{"view": 1}, {"epoch": 1}, {"seed": 1}, {"indices": torch.arange(1, 20001)}],
    ids=["view", "epoch", "seed", "neighbour"],
)
def test_views_epochs_seeds_and_neighbours_are_drawn_independently(other):
    n, settings = 20000, config.Views(crop=1, flip=0.5, solarize=0.5)
    one, two = draw(settings, n=n), draw(settings, n=n, **other)
    for name, values in fields(one).items():
        for twin in fields(two).values():
            pair = torch.stack((values.reshape(n, -1)[:, 0].double(), twin.reshape(n, -1)[:, 0].double()))
            assert abs(torch.corrcoef(pair)[0, 1]) < 4.5 / n**0.5, name


def test_parameters_of_one_view_are_independent_of_each_other():
    n = 20000
    drawn = fields(draw(config.Views(crop=1, flip=0.5, solarize=0.5), n=n))
    correlations = torch.corrcoef(torch.stack([values.reshape(n, -1)[:, 0].double() for values in drawn.values()]))
    assert (correlations - torch.eye(len(drawn))).abs().max() < 4.5 / n**0.5


def test_an_image_is_drawn_the_same_in_any_company():
    whole = draw(n=1000, epoch=3, seed=7)
    some = torch.tensor([999, 3, 3, 512, 0])
    assert same(whole[some], draw(indices=some, epoch=3, seed=7))
    assert same(whole[10:20], draw(indices=torch.arange(10, 20), epoch=3, seed=7))


def test_frozen_views_are_those_of_the_first_epoch_for_ever():
    frozen = config.Views(frozen=True)
    assert same(draw(frozen, epoch=9), draw(config.Views(), epoch=0))
    assert not same(draw(config.Views(), epoch=9), draw(config.Views(), epoch=0))
    assert not same(draw(frozen, view=0), draw(frozen, view=1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": config.Views(crop=33)}, "views.crop=33: choose at most the images' side, 32"),
        ({"epoch": -1}, "epoch=-1: choose a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed=4294967296: choose"),
    ],
)
def test_draws_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        draw(**given)


# ---------------------------------------------------------------------------------- what is rendered


def torchvision_view(image, parameters, i, settings):
    """Return the view torchvision gives, and where it is too close to solarizing's threshold to call."""
    view = tv.to_dtype(image, torch.float32, scale=True)
    view = tv.crop(view, int(parameters.top[i]), int(parameters.left[i]), settings.crop, settings.crop)
    view = tv.resize(view, [SIZE, SIZE])
    view = tv.horizontal_flip(view) if parameters.flip[i] else view
    operations = (
        lambda view: tv.adjust_brightness(view, float(parameters.brightness[i])),
        lambda view: tv.adjust_contrast(view, float(parameters.contrast[i])),
        lambda view: tv.adjust_saturation(view, float(parameters.saturation[i])),
        lambda view: tv.adjust_hue(view, float(parameters.hue[i])),
    )
    for operation in parameters.order[i].tolist() if settings.jitter else ():
        view = operations[operation](view)
    if settings.blur_kernel is not None:
        view = tv.gaussian_blur(view, [settings.blur_kernel] * 2, [float(parameters.blur_sigma[i])])
    close = torch.zeros_like(view, dtype=torch.bool)
    if settings.solarize > 0 and parameters.solarize[i]:
        close = (view - settings.solarize_threshold).abs() < 1e-5
        view = tv.solarize(view, settings.solarize_threshold)
    return view, close


def assert_as_torchvision(images, parameters, settings):
    ours = views.render(images, parameters, settings)
    assert ours.shape == images.shape
    assert ours.dtype == torch.float32
    assert ours.min() >= 0
    assert ours.max() <= 1
    theirs, close = map(
        torch.stack,
        zip(*(torchvision_view(image, parameters, i, settings) for i, image in enumerate(images)), strict=True),
    )
    assert close.float().mean() < 0.001
    ours = torch.where(close, theirs, ours)
    assert (ours - theirs).abs().max() <= 1e-4
    assert ((ours * 255).round() - (theirs * 255).round()).abs().max() <= 1


def neutral(n):
    """Return parameters that change nothing, whatever the order."""
    ones, zeros = torch.ones(n), torch.zeros(n, dtype=torch.int64)
    return views.Parameters(
        top=zeros,
        left=zeros,
        flip=zeros.bool(),
        brightness=ones,
        contrast=ones,
        saturation=ones,
        hue=ones - 1,
        order=torch.tensor(ORDERS)[torch.arange(n) % 24],
        blur_sigma=ones,
        solarize=zeros.bool(),
    )


@pytest.mark.parametrize("crop", range(4, 33))
def test_crop_resize_and_flip_are_torchvisions(images, crop):
    settings = config.Views(crop=crop, flip=0.5, jitter=0.0)
    assert_as_torchvision(images, draw(settings, n=len(images), seed=crop), settings)


@pytest.mark.parametrize(
    "change",
    [
        {name: factor}
        for name in ("brightness", "contrast", "saturation")
        for factor in (0.0, 0.2, 0.8, 1.0, 1.2, 1.8, 2.2)
    ]
    + [{"hue": turns} for turns in (-0.5, -0.3, -0.05, 0.0, 0.05, 0.17, 0.3, 0.5)],
    ids=str,
)
def test_each_jitter_operation_alone_is_torchvisions(images, change):
    settings = config.Views(crop=SIZE, jitter=1.5)
    full = {name: torch.full((len(images),), value) for name, value in change.items()}
    assert_as_torchvision(images, dataclasses.replace(neutral(len(images)), **full), settings)


@pytest.mark.parametrize("strength", [0.25, 1.0, 1.5, 2.5])
def test_all_orders_of_jitter_are_torchvisions(images, strength):
    settings = config.Views(crop=28, jitter=strength)
    many = images.repeat(2, 1, 1, 1)
    assert_as_torchvision(many, in_all_orders(draw(settings, n=len(many))), settings)


@pytest.mark.parametrize("kernel", [1, 3, 5, 23])
def test_blur_is_torchvisions(images, kernel):
    settings = dataclasses.replace(STILL, blur_kernel=kernel)
    parameters = draw(settings, n=len(images))
    parameters.blur_sigma[:2] = torch.tensor(views.BLUR_SIGMA)
    assert_as_torchvision(images, parameters, settings)


@pytest.mark.parametrize("threshold", [0.0, 0.75, 1.0])
def test_solarize_is_torchvisions_to_the_last_bit(images, threshold):
    settings = dataclasses.replace(STILL, solarize=0.5, solarize_threshold=threshold)
    parameters = draw(settings, n=len(images))
    assert parameters.solarize.any()
    assert not parameters.solarize.all()
    expected = images / 255
    for i in parameters.solarize.nonzero()[:, 0]:
        expected[i] = tv.solarize(expected[i], threshold)
    assert torch.equal(views.render(images, parameters, settings), expected)


def test_everything_together_is_torchvisions(images):
    many = images.repeat(4, 1, 1, 1)
    assert_as_torchvision(many, draw(EVERYTHING, n=len(many)), EVERYTHING)


def test_a_whole_crop_without_flip_and_jitter_is_the_clean_image(images):
    assert torch.equal(views.render(images, draw(STILL, n=len(images)), STILL), images / 255)


def test_no_jitter_changes_no_colour(images):
    settings = config.Views(crop=SIZE, flip=1.0, jitter=0.0)
    assert torch.equal(views.render(images, draw(settings, n=len(images)), settings), images.flip(3) / 255)


def test_an_image_is_rendered_the_same_in_any_company(images):
    many = images.repeat(8, 1, 1, 1)
    parameters = draw(EVERYTHING, n=len(many))
    whole = views.render(many, parameters, EVERYTHING)
    some = torch.tensor([300, 7, 41, 7, 0])
    assert torch.equal(views.render(many[some], parameters[some], EVERYTHING), whole[some])
    for i in range(24, 48):
        assert torch.equal(views.render(many[i : i + 1], parameters[i : i + 1], EVERYTHING), whole[i : i + 1])


@pytest.mark.parametrize("plan", ["sorted", "batched"])
def test_an_image_may_have_any_row_of_the_parameters(images, plan):
    parameters, rows = draw(EVERYTHING, n=1000), torch.arange(len(images)).flip(0) * 20
    expected = views.render(images, parameters[rows], EVERYTHING, plan=plan)
    assert torch.equal(views.render(images, parameters, EVERYTHING, rows=rows, plan=plan), expected)


@pytest.mark.parametrize("settings", [config.Views(), EVERYTHING, STILL], ids=["study", "everything", "still"])
def test_channels_may_lie_last_in_memory(images, settings):
    parameters = draw(settings, n=len(images))
    for plan in ("sorted", "batched"):
        last = views.render(images, parameters, settings, plan=plan, memory_format=torch.channels_last)
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(last, views.render(images, parameters, settings, plan=plan))


def test_other_sizes_than_cifars_are_rendered():
    settings = config.Views(crop=40, jitter=0.0)
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    parameters = views.draw(settings, seed=0, epoch=0, indices=torch.arange(4), view=0, size=48)
    ours = views.render(images, parameters, settings)
    for i, image in enumerate(images):
        theirs = tv.resize(tv.crop(image / 255, int(parameters.top[i]), int(parameters.left[i]), 40, 40), [48, 48])
        theirs = tv.horizontal_flip(theirs) if parameters.flip[i] else theirs
        assert (ours[i] - theirs).abs().max() < 1e-5


def test_no_image_gives_no_view():
    empty = torch.zeros(0, 3, SIZE, SIZE, dtype=torch.uint8)
    assert views.render(empty, draw(EVERYTHING, n=0), EVERYTHING).shape == (0, 3, SIZE, SIZE)


def test_rendering_leaves_images_and_parameters_as_they_were(images):
    parameters = draw(EVERYTHING, n=len(images))
    before = images.clone()
    views.render(images, parameters, EVERYTHING)
    assert torch.equal(images, before)
    assert same(parameters, draw(EVERYTHING, n=len(images)))


@pytest.mark.parametrize(
    ("shape", "dtype", "settings", "message"),
    [
        ((5, 3, 32, 32), torch.float32, STILL, r"images=torch.float32 \(5, 3, 32, 32\): choose uint8 \(5, 3, size"),
        ((5, 1, 32, 32), torch.uint8, STILL, r"images=torch.uint8 \(5, 1, 32, 32\): choose"),
        ((4, 3, 32, 32), torch.uint8, STILL, r"images=torch.uint8 \(4, 3, 32, 32\): choose"),
        ((5, 3, 16, 16), torch.uint8, STILL, "views.crop=32: choose at most the images' side, 16"),
        (
            (5, 3, 32, 32),
            torch.uint8,
            dataclasses.replace(STILL, blur_kernel=65),
            "views.blur_kernel=65: choose less than twice",
        ),
    ],
)
def test_images_that_cannot_be_rendered_are_refused(shape, dtype, settings, message):
    with pytest.raises(ValueError, match=message):
        views.render(torch.zeros(shape, dtype=dtype), draw(STILL, n=5), settings)


# ---------------------------------------------------------------------------------- devices and compilers


@pytest.mark.parametrize("settings", [config.Views(), EVERYTHING, STILL], ids=["study", "everything", "still"])
def test_the_plan_for_gpus_is_one_graph_and_gives_the_same_views(images, settings):
    # Traced but not compiled: one graph, so without a word from the host, and the plan of other devices than the CPU.
    traced = torch.compile(views.render, backend="eager", fullgraph=True)
    parameters = draw(settings, n=len(images))
    ours, theirs = views.render(images, parameters, settings), traced(images, parameters, settings)
    assert_close_but_at_the_threshold(ours, theirs, parameters, settings)


@pytest.mark.slow
def test_compiled_views_are_the_same_views(images):
    compiled = torch.compile(views.render, fullgraph=True)
    parameters = draw(EVERYTHING, n=len(images))
    ours, theirs = views.render(images, parameters, EVERYTHING), compiled(images, parameters, EVERYTHING)
    assert_close_but_at_the_threshold(ours, theirs, parameters, EVERYTHING)


@pytest.mark.cuda
@needs_cuda
def test_views_are_drawn_alike_on_cpu_and_gpu():
    on_gpu = draw(EVERYTHING, indices=torch.arange(5000, device="cuda"), epoch=3)
    assert same(draw(EVERYTHING, n=5000, epoch=3), on_gpu)
    order = views.permutation(5000, seed=1, epoch=2, device="cuda")
    assert torch.equal(order.cpu(), views.permutation(5000, seed=1, epoch=2))


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("settings", [config.Views(), EVERYTHING, STILL], ids=["study", "everything", "still"])
def test_views_are_rendered_alike_on_cpu_and_gpu(images, settings):
    parameters = draw(settings, n=len(images))
    on_gpu = draw(settings, indices=torch.arange(len(images), device="cuda"))
    ours = views.render(images, parameters, settings)
    theirs = views.render(images.cuda(), on_gpu, settings).cpu()
    assert_close_but_at_the_threshold(ours, theirs, parameters, settings)
