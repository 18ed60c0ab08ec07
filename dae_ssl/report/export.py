"""The encoder of a cell as a folder that needs nothing of this package: weights, settings with scores, a model card."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute import cells, trained
from dae_ssl.compute.command import run_again
from dae_ssl.config import Cell
from dae_ssl.files import StoreError, beside, delete, explained, sha256_of, sync_folder, write_bytes
from dae_ssl.report.card import card
from dae_ssl.report.findings import Findings
from dae_ssl.store import Store, encoder_epoch
from dae_ssl.training.networks import REPRESENTATION_SIZE
from dae_ssl.training.weights import packed, read_encoder

FORMAT = "dae_ssl export 1"
WEIGHTS, SETTINGS, CARD = FILES = (trained.EXPORTED, "settings.json", "README.md")
ORIGIN = ("commit", "image", "versions", "device", "ranks", "precision", "finished", "seconds", "inputs", "products")
"""What of a node's record is handed on. Host and job are left out, since they say nothing to a stranger."""


def write(cell: Cell, store: Store, folder: Path) -> None:
    """Write the folder, which appears whole, and takes the place of an earlier export under its name.

    What was not measured is named as missing. Raises StoreError, before anything is written, for a cell whose encoder
    the store does not have and for a folder that is something else, and ConfigError for a method without an encoder.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  (without "..", whose folders would be made on the way)
    require_own(folder)
    path = trained.encoder_file(cell, store)
    # An encoder from when weights were PyTorch files is brought into today's form.
    content = path.read_bytes() if path.suffix == ".safetensors" else packed(read_encoder(path).state_dict())
    floors = [Findings(name, floor, store) for name, floor in cells.floors(cell).items()]
    measured = [floor for floor in floors if "test_accuracy" in floor.scores]
    findings = Findings("this encoder", cell, store)
    epoch = encoder_epoch(path.name) or 0
    settings = json.dumps(facts(findings, measured, epoch, content), indent=1, allow_nan=False, ensure_ascii=False)
    text = card(findings, measured, epoch=epoch)
    _appear(folder, {WEIGHTS: content, SETTINGS: f"{settings}\n".encode(), CARD: text.encode()})


def require_own(folder: Path) -> None:
    """Raise StoreError for what is there under a folder's name and is no export, all of which would be lost."""
    with explained(folder):
        if not folder.exists() and not folder.is_symlink():
            return
        names = {path.name for path in folder.iterdir()} if folder.is_dir() and not folder.is_symlink() else set()
    if names != set(FILES) or not _is_export(folder / SETTINGS):
        raise StoreError(f"{folder} is there and is no export of an encoder, or holds more than that: "
                         f"name another folder")  # fmt: skip


def facts(findings: Findings, floors: list[Findings], epoch: int, content: bytes) -> dict[str, Any]:
    """Return all that is known of an encoder as plain values: settings, keys, scores, and what computed it."""
    cell = findings.cell
    return {
        "format": FORMAT,
        "cell": config.cell_key(cell),
        "title": config.title(cell),
        "command": run_again(cell),
        "encoder": {
            "file": WEIGHTS, "sha256": sha256_of(content), "bytes": len(content), "after_epoch": epoch,
            "input": "float32 (n, 3, 32, 32) in [0, 1]: uint8 / 255", "output": f"float32 (n, {REPRESENTATION_SIZE})",
        },
        "settings": config.settings(cell),
        "nodes": config.keys(cell),
        "scores": findings.scores,
        "floors": {floor.name: floor.scores for floor in floors},
        "origin": {stage: {name: record[name] for name in ORIGIN if name in record}
                   for stage, record in findings.records.items()},
    }  # fmt: skip


def _is_export(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _appear(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files of a folder and have them appear at once, in the place of what the folder was before."""
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary, former = beside(folder), None
        try:
            temporary.mkdir()
            for name, content in contents.items():
                write_bytes(temporary / name, content)
            former = folder.rename(beside(folder)) if folder.exists() else None
            temporary.rename(folder)
            sync_folder(folder.parent)
        except BaseException:
            with contextlib.suppress(StoreError, OSError):
                if former is not None and not folder.exists():
                    former.rename(folder)
                delete(temporary)
            raise
        if former is not None:
            delete(former)
