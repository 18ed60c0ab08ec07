"""Measure the ceilings of a device, then compare each kind of work of the suite with them.

    python -m benchmarks.gpu [--seconds 120] [--to FILE] [--only PART ...]

The ceilings are measured on the spot: bytes read and written per second as memory is copied, and operations per second
of square matrix products. Training is measured through `pretrain` itself, whose watch waits for the device after the
first and the last step of an epoch; the first epoch, in which things are compiled and captured, does not count. What a
step costs at least is counted in `benchmarks.counted`; shares are counted cost per second over the ceiling. The host's
time is what the loop needed to hand a step over, before the device was waited for.

Parts come in the order of what they tell, and none begins after `--seconds`; one that fails prints why, and the others
go on. Each is a line of JSON with the machine and versions in `--to`, by default results/gpu-DEVICE.jsonl; the kernels
of ten steps are listed beside it. Torch, torchvision, numpy, h5py, scikit-learn and scipy suffice: without kornia its
side is left out. On a CPU: --device cpu --batch 32 --steps 2 --epochs 2 --probe-epochs 2 shows that all of it runs.
"""

import argparse
import gc
import itertools
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from benchmarks import counted, views
from benchmarks.bench import PRECISIONS, Bench, has_kornia, measure_ceilings, spread, triton_version
from benchmarks.timing import compare
from benchmarks.training import METHODS, PLAIN_BATCHES, measure_plain_loop, measure_step
from dae_ssl import config
from dae_ssl.compute.provenance import device_name
from dae_ssl.distributed import arithmetic, world
from dae_ssl.evaluation import features, probe
from dae_ssl.replay import record
from dae_ssl.training.methods.base import SelfSupervised
from dae_ssl.training.networks import frozen
from dae_ssl.training.views import Plan, draw, permutation, plan_for, render

WIDTH, CLASSES = 8192, 10
"""The number of features of a representation, and of classes."""


# ---------------------------------------------------------------------------------- views


def measure_views(bench: Bench) -> None:
    """Compare the rendering kernel with the copy ceiling, and drawing and rendering with kornia and torchvision."""
    images, batch = bench.images(), bench.options.batch
    order = permutation(len(images), seed=0, epoch=0, device=bench.device)
    drawing = partial(draw, views.SETTINGS, seed=0, epoch=0, indices=order, view=1, size=views.SIZE)
    drawn, clean = drawing()[:batch], images[:batch]
    plans: tuple[Plan, ...] = ("triton", "batched") if bench.on_gpu and triton_version() else (plan_for(images),)
    for plan in plans:
        rendering = partial(render, clean, drawn, views.SETTINGS, plan=plan, memory_format=torch.channels_last)
        with _replayed(bench, rendering) as (work, how):
            rate = max(bench.rates(work, batch))
        share = bench.share("copy", rate * counted.view(views.SIZE))
        bench.add(f"views, {plan} plan alone, {how}", views_per_second=rate, share_of_copy=share)
    seconds = [1 / rate for rate in bench.rates(drawing, 1, repeat=1)]
    bench.add("views, drawing an epoch's", milliseconds=spread([1e3 * value for value in seconds]))
    few = images[: PLAIN_BATCHES * batch]
    sides = {f"dae_ssl, {plans[0]} plan": views.ours(images, batch)}
    sides |= {f"dae_ssl, {plan} plan": views.ours(images, batch, plan) for plan in plans[1:]}
    sides |= {"kornia": views.with_kornia(few, batch)} if has_kornia() else {}
    sides["torchvision, 2 workers"] = views.with_torchvision(few, batch)
    bench.compared("views", "views", compare(sides, rounds=3))


@contextmanager
def _replayed(bench: Bench, work: Callable[[], object]) -> Iterator[tuple[Callable[[], object], str]]:
    """Yield work as a captured graph, so that host time does not count; on a CPU yield it unchanged."""
    if not bench.on_gpu:
        yield work, "as it is"
        return
    work()
    bench.wait()
    yield record(work), "captured"


# ---------------------------------------------------------------------------------- evaluation


def _representations(bench: Bench) -> tuple[Tensor, Tensor]:
    n = bench.options.batch * bench.options.steps
    generator = torch.Generator(bench.device).manual_seed(0)
    x = torch.rand(n, WIDTH, device=bench.device, dtype=torch.float16, generator=generator)
    return x, torch.randint(CLASSES, (n,), device=bench.device, generator=generator)


def measure_probe(bench: Bench) -> None:
    """Train a whole probe, and time its epochs, as its log shows them, and the whole."""
    x, y = _representations(bench)
    held_out, ends = max(len(x) // 10, 1), []
    settings = config.Probe(epochs=bench.options.probe_epochs)
    with arithmetic(bench.device, "fp32"):
        bench.wait()
        began = time.perf_counter()
        probe.train_probe(
            x, y, x[:held_out], y[:held_out],
            settings=settings, classes=CLASSES, log=lambda *_: ends.append(time.perf_counter()),
        )  # fmt: skip
        bench.wait()
        whole = time.perf_counter() - began
    epochs = [after - before for before, after in itertools.pairwise(ends)]
    seconds = statistics.median(epochs)
    read = (len(x) + held_out) * WIDTH * x.element_size()
    bench.add(
        "probe",
        images=len(x),
        whole_seconds=whole,
        epochs=settings.epochs,
        epoch_milliseconds=spread([1e3 * value for value in epochs]),
        share_of_copy=bench.share("copy", read / seconds),
    )


def measure_regression(bench: Bench) -> None:
    """Fit the logistic regression that is evaluated in addition to the probe."""
    x, y = _representations(bench)
    with arithmetic(bench.device, "fp32"):
        bench.wait()
        began = time.perf_counter()
        fit = probe.logistic_regression(x, y, classes=CLASSES, max_iterations=20)
        seconds = time.perf_counter() - began
    bench.add("logistic regression", images=len(x), iterations=fit.iterations, seconds=seconds)


def measure_features(bench: Bench) -> None:
    """Encode images and write the features, compared with a raw file of the same bytes."""
    cell = config.cell(method=METHODS["dae"])
    assert isinstance(cell.method, SelfSupervised)
    networks, images = cell.method.networks(cell.networks, 0), bench.images()
    encode, batch = frozen(networks["encoder"], bench.device), images[:1024]
    flop = counted.encoding(networks, len(batch))
    with arithmetic(bench.device, "fp32"):
        rate = max(bench.rates(lambda: encode(batch), len(batch)))
        share = bench.share("fp32", rate / len(batch) * flop)
        bench.add("features, encoder alone, fp32", images_per_second=rate, share_of_products=share)
        few = images[:20_000]
        labels = torch.zeros(len(few), dtype=torch.int64)
        split = SimpleNamespace(images=few, labels=labels, ids=torch.arange(len(few)))
        raw = torch.rand(len(few), WIDTH).half().numpy()
        with tempfile.TemporaryDirectory(dir=bench.options.folder) as folder:

            def ours() -> int:
                path = Path(folder) / "features.h5"
                path.unlink(missing_ok=True)
                features.write(path, {"train": split}, encode, dtype="float16", attributes={})
                return raw.nbytes

            def plainly() -> int:
                raw.tofile(Path(folder) / "features.raw")
                return raw.nbytes

            sides = {"features.write, encoder and all": ours, "a raw file": plainly}
            bench.compared("features", "bytes", compare(sides, rounds=3))


# ---------------------------------------------------------------------------------- all of it


def parts(options: argparse.Namespace) -> dict[str, Callable[[Bench], None]]:
    """Return the parts by name, the most informative ones first."""
    kinds = [(method, precision) for method in options.methods for precision in options.precisions]
    steps: dict[str, Callable[[Bench], None]] = {
        f"step-{method}-{precision}": partial(measure_step, method=method, precision=precision, profiled=i == 0)
        for i, (method, precision) in enumerate(kinds)
    }
    first, *others = steps
    rest: dict[str, Callable[[Bench], None]] = {
        "views": measure_views,
        "probe": measure_probe,
        "features": measure_features,
        "plain": measure_plain_loop,
        "regression": measure_regression,
    }
    # Among the other parts, those in the first precision come first, since it is used for training.
    others.sort(key=lambda name: not name.endswith(options.precisions[0]))
    return {"ceilings": measure_ceilings, first: steps[first]} | rest | {name: steps[name] for name in others}


def run(bench: Bench, chosen: Mapping[str, Callable[[Bench], None]], seconds: float) -> list[str]:
    """Measure part after part until the time is up, and return the names of those that failed."""
    began, failed = time.monotonic(), []
    for name, part in chosen.items():
        if time.monotonic() - began >= seconds:
            print(f"{name}: left out, the {seconds:g} seconds are over", flush=True)
            continue
        try:
            part(bench)
        except Exception as error:
            reason = (str(error).strip() or "no message").splitlines()[0]
            print(f"{name}: failed, {type(error).__name__}: {reason[:300]}", flush=True)
            failed.append(name)
        gc.collect()
        torch.compiler.reset()
        if bench.on_gpu:
            torch.cuda.empty_cache()
    return failed


def given(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seconds", type=float, default=120, help="seconds after which no part begins")
    parser.add_argument("--to", type=Path, help="file to which results are appended")
    parser.add_argument(
        "--only", nargs="+", metavar="PART", help="measure only these parts: ceilings, step-METHOD-PRECISION, ..."
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["dae", "simclr"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=97, help="steps in an epoch, 2 or more")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of training, 2 or more; the first does not count")
    parser.add_argument("--probe-epochs", type=int, default=200, help="epochs of the probe, 2 or more")
    parser.add_argument("--folder", type=Path, help="folder for the features; a temporary one by default")
    options = parser.parse_args(arguments)
    for name in ("steps", "epochs", "probe_epochs"):
        if getattr(options, name) < 2:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: choose 2 or more")
    if unknown := set(options.only or ()) - parts(options).keys():
        parser.error(f"--only {sorted(unknown)[0]}: choose from {', '.join(parts(options))}")
    return options


def main() -> int:
    """Measure all parts, and return 1 if one failed."""
    options = given()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # so that no side of a comparison takes a GPU that is there
    with world(options.device) as single:
        name = re.sub(r"[^a-z0-9]+", "-", device_name(single.device).lower()).strip("-")
        file = options.to or Path("results") / f"gpu-{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        chosen = {name: part for name, part in parts(options).items() if options.only is None or name in options.only}
        print(f"{device_name(single.device)}: {', '.join(chosen)} -> {file}", flush=True)
        failed = run(Bench(single, options, file), chosen, options.seconds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
