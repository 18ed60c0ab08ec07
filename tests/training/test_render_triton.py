"""The Triton kernel gives the views of the CPU's plan; without a GPU Triton's interpreter runs it, step by step.

Triton is told to interpret before it is imported, so a process of its own does that, and no other test's Triton knows.
"""

import dataclasses
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dae_ssl import config
from dae_ssl.training import views
from tests.viewed import (
    EVERYTHING,
    SIZE,
    STILL,
    assert_close_but_at_the_threshold,
    draw,
    example_images,
    in_all_orders,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
STUDY = config.Views()
SETTINGS = pytest.mark.parametrize("settings", [STUDY, EVERYTHING, STILL], ids=["study", "everything", "still"])
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


# ---------------------------------------------------------------------------------- the interpreter's process


def kernel_views(images, parameters, settings, memory_format=torch.contiguous_format, rows=None):
    return views.render(images, parameters, settings, rows=rows, plan="triton", memory_format=memory_format)


def compiled_kernel_views(images, parameters, settings):
    compiled = torch.compile(kernel_views, fullgraph=True, dynamic=False, backend="aot_eager")
    return compiled(images, parameters, settings, torch.channels_last)


def check_operation(images, parameters):
    """Let torch check what the operation says of itself: what it leaves alone, and its result's shape and strides."""
    from dae_ssl.training.render_triton import rendered

    names = ["top", "left", "flip", "brightness", "contrast", "saturation", "hue", "order", "solarize"]
    for channels_last in (False, True):
        settings = {"crop": 28, "jitter": True, "threshold": 0.5, "channels_last": channels_last}
        settings |= {"operations": [0, 1, 2], "gray_weights": list(views.GRAY_WEIGHTS)}
        given = [getattr(parameters, name) for name in names]
        for rows in (None, torch.arange(len(images)).flip(0)):
            checks = ("test_schema", "test_faketensor")
            torch.library.opcheck(rendered, (images, rows, *given), settings, test_utils=checks)


@pytest.fixture(scope="module")
def interpreted():
    """Return a function that calls a function where Triton interprets."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            assert pool.submit(os.getenv, "TRITON_INTERPRET").result() == "1"
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def images():
    return example_images()


@pytest.fixture
def assert_same_views(interpreted):
    def check(images, parameters, settings):
        ours = interpreted(kernel_views, images, parameters, settings)
        theirs = views.render(images, parameters, settings)
        assert (ours.shape, ours.dtype) == (theirs.shape, torch.float32)
        assert ours.min() >= 0
        assert ours.max() <= 1
        assert_close_but_at_the_threshold(ours, theirs, parameters, settings)

    return check


# ---------------------------------------------------------------------------------- what is rendered


@pytest.mark.parametrize("crop", [4, 5, 7, 13, 16, 21, 24, 28, 31, 32])
def test_crop_resize_and_flip_are_the_cpus(assert_same_views, images, crop):
    settings, some = config.Views(crop=crop, flip=0.5, jitter=0.0), images[::6]
    assert_same_views(some, draw(settings, n=len(some), seed=crop), settings)


@pytest.mark.parametrize("strength", [0.25, 1.5, 2.5])
def test_all_orders_of_jitter_are_the_cpus(assert_same_views, images, strength):
    settings = config.Views(jitter=strength)
    assert_same_views(images, in_all_orders(draw(settings, n=len(images))), settings)


@pytest.mark.parametrize(
    "change",
    [{name: factor} for name in ("brightness", "contrast", "saturation") for factor in (0.0, 1.0, 2.2)]
    + [{"hue": turns} for turns in (-0.5, -0.17, 0.0, 0.05, 0.5)],
    ids=str,
)
def test_each_jitter_operation_alone_is_the_cpus(assert_same_views, images, change):
    some, settings = images[::4], config.Views(crop=SIZE, jitter=1.5)
    alone = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0} | change
    full = {name: torch.full((len(some),), value) for name, value in alone.items()}
    assert_same_views(some, dataclasses.replace(draw(settings, n=len(some)), **full), settings)


@pytest.mark.parametrize("kernel", [None, 1, 3, 23])
def test_blur_and_then_solarize_follow_jitter(assert_same_views, images, kernel):
    settings, some = config.Views(jitter=1.0, blur_kernel=kernel, solarize=0.5), images[::2]
    assert_same_views(some, draw(settings, n=len(some)), settings)


@pytest.mark.parametrize("n", [1, 5, 37])
def test_batches_of_any_size_are_rendered(assert_same_views, images, n):
    assert_same_views(images[:n], draw(EVERYTHING, n=n), EVERYTHING)


@pytest.mark.parametrize(("size", "crop"), [(1, 1), (5, 3), (20, 13), (48, 40), (128, 100)])
def test_images_of_any_side_are_rendered(assert_same_views, size, crop):
    settings = config.Views(crop=crop, jitter=1.5)
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (7, 3, size, size), dtype=torch.uint8, generator=generator)
    assert_same_views(images, draw(settings, n=7, size=size), settings)


def test_no_image_gives_no_view(interpreted, images):
    assert interpreted(kernel_views, images[:0], draw(STUDY, n=0), STUDY).shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize("threshold", [0.0, 0.75, 1.0])
def test_without_resize_and_jitter_views_are_equal_to_the_last_bit(interpreted, images, threshold):
    settings = dataclasses.replace(STILL, flip=0.5, solarize=0.5, solarize_threshold=threshold)
    parameters = draw(settings, n=len(images))
    theirs = views.render(images, parameters, settings)
    assert torch.equal(interpreted(kernel_views, images, parameters, settings), theirs)


def test_an_image_is_rendered_the_same_in_any_company(interpreted, images):
    images = images[::3]
    parameters = draw(EVERYTHING, n=len(images))
    whole = interpreted(kernel_views, images, parameters, EVERYTHING)
    some = torch.tensor([13, 7, 11, 7, 0])
    assert torch.equal(interpreted(kernel_views, images[some], parameters[some], EVERYTHING), whole[some])


@SETTINGS
def test_channels_may_lie_last_in_memory(interpreted, images, settings):
    images = images[::6]
    parameters = draw(settings, n=len(images))
    first = interpreted(kernel_views, images, parameters, settings)
    last = interpreted(kernel_views, images, parameters, settings, torch.channels_last)
    assert first.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, last)


def test_images_and_parameters_may_lie_anywhere_in_memory(interpreted, images):
    images = images[::4]
    parameters = draw(STUDY, n=len(images))
    expected = interpreted(kernel_views, images, parameters, STUDY)
    loose = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(interpreted(kernel_views, loose, parameters, STUDY), expected)
    every_other = slice(1, None, 2)
    assert torch.equal(
        interpreted(kernel_views, images[every_other], parameters[every_other], STUDY), expected[every_other]
    )


@pytest.mark.parametrize("settings", [STUDY, EVERYTHING], ids=["study", "everything"])
def test_an_image_may_have_any_row_of_the_parameters(interpreted, images, settings):
    images, parameters = images[::6], draw(settings, n=100)
    rows = torch.tensor([99, 0, 5, 5, 64, 31, 2, 77])
    expected = interpreted(kernel_views, images, parameters[rows], settings)
    assert torch.equal(interpreted(kernel_views, images, parameters, settings, torch.contiguous_format, rows), expected)


# ---------------------------------------------------------------------------------- plans and compilers


@SETTINGS
def test_the_kernel_is_rendered_alike_within_a_compiled_function(interpreted, images, settings):
    images = images[::6]
    parameters = draw(settings, n=len(images))
    compiled = interpreted(compiled_kernel_views, images, parameters, settings)
    assert compiled.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(compiled, interpreted(kernel_views, images, parameters, settings))


def test_the_operation_is_what_it_says(interpreted, images):
    interpreted(check_operation, images[:5], draw(STUDY, n=5))


def traced_for_cuda(settings, size=SIZE):
    """Return the calls that a compiler for CUDA is given, and the result: tensors without contents need no GPU."""
    graphs = []
    compiled = torch.compile(views.render, backend=lambda graph, _: graphs.append(graph) or graph, fullgraph=True)
    with FakeTensorMode():
        images = torch.empty(6, 3, size, size, dtype=torch.uint8, device="cuda")
        parameters = draw(settings, indices=torch.arange(6, device="cuda"), size=size)
        result = compiled(images, parameters, settings, memory_format=torch.channels_last)
    torch.compiler.reset()
    (graph,) = graphs
    return [str(node.target) for node in graph.graph.nodes if node.op.startswith("call")], result


@pytest.mark.parametrize("settings", [STUDY, STILL], ids=["study", "still"])
def test_compiled_for_a_gpu_a_view_is_one_launch(settings):
    calls, result = traced_for_cuda(settings)
    assert calls == ["dae_ssl.rendered.default"]
    assert result.device.type == "cuda"
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_compiled_for_a_gpu_blur_follows_the_kernel():
    calls, _ = traced_for_cuda(EVERYTHING)
    assert calls[0] == "dae_ssl.rendered.default"
    assert len(calls) > 1


def test_images_too_large_for_the_kernel_are_rendered_by_operations():
    calls, _ = traced_for_cuda(STUDY, size=129)
    assert "dae_ssl.rendered.default" not in calls


def test_without_triton_views_are_rendered_by_operations(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "dae_ssl.training.render_triton", raising=False)
    monkeypatch.delattr("dae_ssl.training.render_triton", raising=False)
    calls, _ = traced_for_cuda(STUDY)
    assert len(calls) > 10
    assert "dae_ssl.rendered.default" not in calls


@pytest.mark.parametrize(("device", "plan"), [("cpu", "sorted"), ("cuda", "batched"), ("mps", "batched")])
def test_uncompiled_no_plan_needs_a_compiler(device, plan):
    assert views.plan_for(SimpleNamespace(device=torch.device(device), shape=(1, 3, SIZE, SIZE))) == plan


# ---------------------------------------------------------------------------------- the compiler for a GPU


def resources(size, *, channels_last, solarize, folder):
    """Compile for an H100 and return what ptxas gave a thread: registers, and bytes of stack, which are spills."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dae_ssl.training.render_triton import view_kernel, warps

    block = triton.next_power_of_2(size * size)
    floats = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), "*fp32")
    whole = dict.fromkeys(("rows", "top", "left", "order"), "*i64")
    types = {"images": "*u8", "views": "*fp32", "flip": "*i1", "solarize": "*i1"} | floats | whole
    constants = {
        "CROP": size - 4, "SIZE": size, "BLOCK": block,
        "CHANNEL_STRIDE": 1 if channels_last else size**2, "PIXEL_STRIDE": 3 if channels_last else 1,
        "JITTER": True, "SOLARIZE": solarize, "THRESHOLD": 0.75,
        "BRIGHTNESS": 0, "CONTRAST": 1, "SATURATION": 2, "RED": 0.3, "GREEN": 0.6, "BLUE": 0.1,
    }  # fmt: skip
    signature = {name: types.get(name, "constexpr") for name in view_kernel.arg_names}
    source = ASTSource(view_kernel, signature, constants)
    options = {"num_warps": warps(block), "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    (folder / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    listed = subprocess.run([tool, "--dump-resource-usage", folder / "kernel.cubin"], capture_output=True, check=True)
    usage = dict(entry.split(":") for entry in listed.stdout.decode().split() if entry.startswith(("REG:", "STACK:")))
    return int(usage["REG"]), int(usage["STACK"])


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("solarize", [False, True], ids=["plain", "solarize"])
def test_it_compiles_for_an_h100_and_spills_no_register(tmp_path, monkeypatch, channels_last, solarize):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    registers, stack = resources(SIZE, channels_last=channels_last, solarize=solarize, folder=tmp_path)
    assert stack == 0
    assert registers <= 64, "above, fewer than four programs of 256 threads share a multiprocessor"


# ---------------------------------------------------------------------------------- a GPU


@pytest.mark.cuda
@needs_cuda
@SETTINGS
def test_on_a_gpu_views_are_the_cpus(images, settings):
    parameters = in_all_orders(draw(settings, n=len(images)))
    on_gpu = views.Parameters(**{field.name: getattr(parameters, field.name).cuda() for field in FIELDS})
    theirs = views.render(images, parameters, settings)
    ours = kernel_views(images.cuda(), on_gpu, settings)
    assert_close_but_at_the_threshold(ours.cpu(), theirs, parameters, settings)
    compiled = torch.compile(views.render, fullgraph=True, dynamic=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's hints
        last = compiled(images.cuda(), on_gpu, settings, memory_format=torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert_close_but_at_the_threshold(last.cpu(), theirs, parameters, settings)
    if settings.blur_kernel is None:  # blur is compiled, and may round otherwise
        assert torch.equal(last, ours)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("strength", [0.25, 1.5])
def test_on_a_gpu_rendering_repeats_itself_to_the_last_bit(images, strength):
    settings = config.Views(jitter=strength)
    many = images.repeat(20, 1, 1, 1).cuda()
    parameters = draw(settings, indices=torch.arange(len(many), device="cuda"))
    first = kernel_views(many, parameters, settings)
    for _ in range(5):
        assert torch.equal(kernel_views(many, parameters, settings), first)
    assert torch.equal(kernel_views(many[77:120], parameters[77:120], settings), first[77:120])


FIELDS = dataclasses.fields(views.Parameters)
