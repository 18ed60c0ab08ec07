"""The model card of an encoder: front matter as model hubs read it, then what it is, scores, and how it is loaded."""

import json
from collections.abc import Sequence
from typing import Any

from dae_ssl import config
from dae_ssl.compute.command import run_again
from dae_ssl.config import Cell
from dae_ssl.data.prepared import SIDE
from dae_ssl.report.cell.page import summary
from dae_ssl.report.cell.tables import accuracy_note, accuracy_table
from dae_ssl.report.findings import Findings
from dae_ssl.report.numbers import setting
from dae_ssl.training import networks

HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
"""What data sets are called where models are shared."""
LOADING = """\
from safetensors.torch import load_file
from torch.nn import Conv2d, Flatten, Hardtanh, MaxPool2d, Sequential

encoder = Sequential(
    Conv2d(3, 32, 3, padding=1), Hardtanh(), Conv2d(32, 32, 3, padding=1), MaxPool2d(2),
    Conv2d(32, 64, 3, padding=1), Hardtanh(), Conv2d(64, 64, 3, padding=1), MaxPool2d(2),
    Conv2d(64, 512, 3, padding=1), MaxPool2d(2), Flatten(),
)
encoder.load_state_dict(load_file("encoder.safetensors"))
encoder.eval().requires_grad_(False)
h = encoder(images.float() / 255)  # images: uint8 (n, 3, 32, 32); h: (n, 8192)
"""
"""The lines that load an encoder with PyTorch and safetensors alone."""


def card(findings: Findings, floors: Sequence[Findings], *, epoch: int) -> str:
    """Return the card of a cell's encoder, as Markdown; floors are those that were measured."""
    cell = findings.cell
    sections = {
        "How to load it": f"With PyTorch and `safetensors`, in this folder:\n\n```python\n{LOADING}```\n\n"
        'Where the package `dae_ssl` is installed: `h = dae_ssl.load_encoder("encoder.safetensors")(images)`.',
        "What was measured": _measured(findings, floors),
        "How it was trained": _trained(findings, epoch),
        "What it is for, and what it is not": _use(cell),
    }
    lead = "".join(part if isinstance(part, str) else "".join(part.itertext()) for part in summary(findings, floors))
    body = "\n".join(f"## {title}\n\n{text}\n" for title, text in sections.items())
    own = (f"{name} = {value}" for name, value in config.unusual(cell)[0].items())
    title = ", ".join([cell.method.name, *own, f"seed = {cell.seed}"])
    return f"{_front_matter(findings)}\n# Encoder: {title}\n\n{lead}\n\n{body}"


def _front_matter(findings: Findings) -> str:
    """Return what hubs index. YAML takes every JSON value for what it is."""
    cell = findings.cell
    sets = [HUB[name] for name in dict.fromkeys((cell.data.pretrain, cell.data.evaluate)) if name in HUB]
    facts: dict[str, Any] = {
        "pipeline_tag": "image-feature-extraction",
        "tags": ["self-supervised-learning", "pytorch", "safetensors", "dae_ssl", cell.method.name],
        **({"datasets": sets} if sets else {}),
        "metrics": ["accuracy"],
    }
    if "test_accuracy" in findings.scores:
        facts["model-index"] = [_result(findings)]
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in facts.items())
    return "\n".join(["---", *lines, "---", ""])


def _result(findings: Findings) -> dict[str, Any]:
    name, value = findings.cell.data.evaluate, round(100 * findings.scores["test_accuracy"], 2)
    return {
        "name": f"dae_ssl {config.cell_key(findings.cell)}",
        "results": [{
            "task": {"type": "image-classification", "name": "linear probe on frozen representations"},
            "dataset": {"type": HUB.get(name, name), "name": name, "split": "test"},
            "metrics": [{"type": "accuracy", "value": value, "name": "top-1, %"}],
        }],
    }  # fmt: skip


def _measured(findings: Findings, floors: Sequence[Findings]) -> str:
    if "test_accuracy" not in findings.scores:
        return f"Nothing was measured yet: `{run_again(findings.cell)}` measures it, and then it can be exported anew."
    table = accuracy_table(findings, floors)
    return f"{table.title}:\n\n{table.markdown()}\n{accuracy_note(findings)} Every score is in `settings.json`."


def _trained(findings: Findings, epoch: int) -> str:
    """Return the settings that decide the weights, and what computed them."""
    cell, record = findings.cell, findings.records["pretrain"]
    what = (type(cell.method).__doc__ or "").strip().partition("\n")[0]
    after = f"These are its weights after epoch {epoch} of {cell.optimisation.epochs}." if cell.method.trains else ""
    decisive = config.flat(config.stage_settings(cell, "pretrain"))
    named = {name: value for name, value in decisive.items() if name not in ("schema", "stage")}
    lines = [f"| `{name}` | {setting(value)} |" for name, value in named.items()]
    torch, commit = record["versions"].get("torch", "?"), record["commit"] or "not recorded"
    origin = f"Computed in {record['seconds']:.0f} s on {record['device']} with torch {torch}, from commit `{commit}`."
    table = "\n".join(["| setting | value |", "|---|---|", *lines])
    again = f"`{run_again(cell)}` computes it again, bit for bit on the same kind of device."
    return "\n\n".join([f"{what} {after}".strip(), table, f"{origin} {again}"])


def _use(cell: Cell) -> str:
    """Return what the encoder may be used for, and where it ends."""
    weights = sum(weight.numel() for weight in networks.encoder().parameters())
    source = f"images of {cell.data.pretrain}" if cell.method.trains else "no images at all"
    return (
        f"It turns {SIDE}x{SIDE} colour images into representations for research on self-supervised learning: to be "
        f"probed, clustered, and compared with other methods on the same network.\n\n"
        f"It was trained on {source}. Images of another size have to be resized first; values from 0 to 255 are "
        f"divided by 255, and not normalised in another way. The network is tiny (five convolutions, {weights:,} "
        f"weights) and no match for larger ones, and a linear probe does not reach what fine-tuning would. Intervals "
        f"are over test images; how much another seed changes is not measured by one cell. Nothing was done about "
        f"biases of the images.\n\n"
        f"Whoever publishes these weights has to state their licence: add a line `license:` to the front matter."
    )
