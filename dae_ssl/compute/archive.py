"""Finished nodes <-> a file of results: all scores with their provenance, but without weights and features.

The file has a line of JSON for each cell, then one for each node, with its commit record (scores, versions, device,
seconds), its log and its small products, compressed. A node that is loaded into another store counts as done, since its
scores are there; its record names the products that were left behind, and it is computed again only if another node
needs one of them. Encoders are kept in a folder next to the file, which `encoders` reads and writes.
"""

import base64
import contextlib
import json
import lzma
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dae_ssl import config
from dae_ssl.compute import cells, done
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError, explained, identity, require_replaceable, sha256_of, write_bytes, write_json
from dae_ssl.lock import Locked, held
from dae_ssl.store import (
    CORRECT,
    KMEANS,
    LEFT_BEHIND,
    LOCK,
    LOG,
    PROBE,
    RECORD,
    SCORES,
    STATE,
    Folder,
    Store,
    pictures_name,
    products_digest,
)

BROUGHT = (PROBE, CORRECT, KMEANS)
"""The products that a file of results holds for every node."""
LARGEST = 64 << 20
"""The largest size in bytes of a file in an entry; example pictures, the largest ones, have some hundred thousand."""
DEEPEST = 20
"""The deepest nesting of lists and objects in an entry; records have seven levels."""
LONGEST_REASON = 300
"""The largest number of characters of the reason why a line is refused."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_KEY, _SHA256 = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")


class ArchiveError(StoreError):
    """A file of results cannot be read or trusted; the message is one line with the place and the reason."""


@dataclass
class Archive:
    """The lines of a file of results."""

    cells: dict[str, dict[str, Any]]
    """The settings of each cell, by the cell's key."""
    nodes: dict[tuple[str, str], dict[str, Any]]
    """The record, log and products of each node, by stage and key."""

    @classmethod
    def read(cls, path: Path) -> "Archive":
        """Read a file of results; one that does not exist is empty. Raises ArchiveError for any other file."""
        archive = cls({}, {})
        if not path.exists():
            return archive
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{path} is not a file of results: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                _require_plain(entry)
                _require(isinstance(entry, dict), "it is not a JSON object")
                if "cell" in entry:
                    _require(
                        _KEY.fullmatch(str(entry["cell"])) and isinstance(entry["settings"], dict), "it is not a cell"
                    )
                    archive.cells[entry["cell"]] = entry["settings"]
                else:
                    _check(entry)
                    archive.nodes[entry["stage"], entry["key"]] = entry
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, lzma.LZMAError) as error:
                raise ArchiveError(f"{path}, line {number} is not a result, or is damaged: {_reason(error)}") from error
        return archive

    def write(self, path: Path) -> None:
        """Write the file as a whole; the same results give the same bytes."""
        entries = [{"cell": key, "settings": settings} for key, settings in sorted(self.cells.items())]
        entries += [entry for _, entry in sorted(self.nodes.items(), key=lambda item: (_order(item[0][0]), item[0][1]))]
        lines = (json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False) for entry in entries)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())

    def add(self, wanted: Iterable[Cell], store: Store, *, pictured: Iterable[Cell] = ()) -> int:
        """Add the current nodes of some cells from a store; return how many are new or differ from the file's.

        The example pictures of the last epoch are added for `pictured` cells. The store's node replaces one in the
        file that has other products or fewer of them, so that the file never holds nodes together with a parent that
        they were not made from.
        """
        with_pictures = {config.key(cell, "pretrain") for cell in pictured}
        changed = 0
        for cell in wanted:
            known = cells.current_records(cell, store)
            if known:
                self.cells[config.cell_key(cell)] = config.settings(cell)
            for stage, record in known.items():
                node = cells.nodes(cell, store)[stage]
                more = (pictures_name(cell.optimisation.epochs),) if node.key in with_pictures else ()
                entry = _packed(stage, node, record, (*BROUGHT, *more))
                if _has_more(entry, self.nodes.get((stage, node.key))):
                    self.nodes[stage, node.key] = entry
                    changed += 1
        return changed

    def load(self, store: Store) -> int:
        """Put every node that a store lacks into it, and return their number; the store's own nodes stay unchanged."""
        for cell in self.described():
            cells.describe(cell, store)
        return sum(_unpack(entry, store.node(stage, key)) for (stage, key), entry in self.nodes.items())

    def described(self) -> list[Cell]:
        """Return the cells. Raises ArchiveError for a cell that this version of the package does not know."""
        known = []
        for key, settings in self.cells.items():
            try:
                known.append(config.cell(settings))
            except ConfigError as error:
                raise ArchiveError(f"cell {key} is unknown to this version of dae_ssl: {_reason(error)}") from error
            if config.cell_key(known[-1]) != key:
                raise ArchiveError(f"cell {key} is not the key of its settings")
        return known

    def records(self, cell: Cell) -> dict[str, dict[str, Any]]:
        """Return the commit records of a cell's stages that count as done."""
        entries = {stage: self.nodes.get((stage, key)) for stage, key in config.keys(cell).items()}
        return done.counted(cell, {stage: entry["record"] for stage, entry in entries.items() if entry is not None})


class File:
    """A file of results to which several commands may add at the same time without losing results of each other.

    Its contents stay in memory, and are read again if another process has written the file since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = Archive({}, {})
        self._as_of: tuple[int, ...] | None = _ABSENT

    @contextlib.contextmanager
    def adding(
        self, wanted: Iterable[Cell], store: Store, *, pictured: Iterable[Cell] = ()
    ) -> Iterator[tuple[Archive, int]]:
        """Add the current nodes of some cells from a store; yield the whole file and the number of new nodes.

        No other command adds to the file until the block ends, which may write the folder of encoders next to it.
        Raises ArchiveError if it is not a file of results, StoreError if it cannot be written.
        """
        require_replaceable(self.path)  # before reading, since reading a pipe would wait
        lock = self.path.with_name(f".{self.path.name}.lock")
        with held(lock, wait=True, tell=lambda _: print(f"waiting for {self.path}: another command adds to it")):
            if self._as_of is None or _as_of(self.path) != self._as_of:
                self._archive = Archive.read(self.path)
            self._as_of = None  # if writing fails, memory holds more than the file, so it is read again
            new = self._archive.add(wanted, store, pictured=pictured)
            self._archive.write(self.path)
            self._as_of = _as_of(self.path)
            yield self._archive, new


_ABSENT: tuple[int, ...] = ()


def _as_of(path: Path) -> tuple[int, ...]:
    """Return an identity of the file that changes when any process writes it."""
    return identity(path) if path.exists() else _ABSENT


def _has_more(entry: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Return whether an entry has other products or another parent than the known one, or more of the same products."""
    if known is None or products_digest(entry["record"]) != products_digest(known["record"]):
        return True
    if entry["record"].get("parent") != known["record"].get("parent"):
        return True
    return not entry["files"].keys() <= known["files"].keys()


def _reason(error: Exception) -> str:
    """Return an error as one short printable line, even if it quotes the file."""
    text = str(error) if type(error) in (ValueError, ConfigError) else f"{type(error).__name__}, {error}"
    text = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    return text if text.isprintable() else ascii(text)


def _order(stage: str) -> int:
    return config.STAGES.index(stage)


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _require_plain(value: Any, deepest: int = DEEPEST) -> None:
    """Raise ValueError for JSON that cannot be written again, or that readers of a record do not expect."""
    if isinstance(value, dict | list):
        _require(deepest, f"it is nested more than {DEEPEST} deep")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _require_plain(inner, deepest - 1)
    elif isinstance(value, str):
        value.encode()  # raises ValueError for half of a surrogate pair
    elif isinstance(value, int | float):
        small = math.isfinite(value) if isinstance(value, float) else value.bit_length() <= 64
        _require(small, "a number in it is not finite or has more than 64 bits")


def _check(entry: Mapping[str, Any]) -> None:
    """Raise ValueError for an entry that contradicts itself, such as a key that is not that of its settings.

    Everything that loading uses is checked here, so that loading cannot fail half-way.
    """
    stage, key, record, files = (entry[name] for name in ("stage", "key", "record", "files"))
    node = f"{str(stage)[:20]} {str(key)[:20]}"
    _require(isinstance(record, dict) and isinstance(files, dict), f"{node} has no record or no files")
    its_own = stage in config.STAGES and record["settings"].get("stage") == stage
    _require(its_own and key == config.key_of(record["settings"]), f"{node} is not the key of its settings")
    products, left = record["products"], record.get(LEFT_BEHIND, {})
    _require(isinstance(products, dict) and isinstance(left, dict), f"{node} does not list its products")
    for name in sorted(files.keys() - {LOG} | products.keys() | left.keys()):
        _require(_is_product(name), f"{name[:80]!r} is not a product's name")
    for facts in (*products.values(), *left.values()):
        whole = type(facts["bytes"]) is int and facts["bytes"] >= 0 and _SHA256.fullmatch(str(facts["sha256"]))
        _require(whole, f"{node} lists a product without its size and SHA-256")
    for name in products:
        _require(name in files, f"{name} of {node} is missing")
    for name, content in ((name, _plain(packed)) for name, packed in files.items()):
        facts = {"bytes": len(content), "sha256": sha256_of(content)}
        _require(name == LOG or facts == products.get(name), f"{name} of {node} is not what its record names")
    _check_numbers(record, node)


def _is_product(name: str) -> bool:
    kept_out = name in (RECORD, LOG, STATE) or name.partition(".")[0] == LOCK
    return _NAME.fullmatch(name) is not None and not kept_out


def _check_numbers(record: Mapping[str, Any], node: str) -> None:
    """Raise ValueError if something that pages or plans calculate with is not a number."""
    scores = record.get(SCORES, {})
    _require(isinstance(scores, dict), f"the {SCORES} of {node} have no names")
    for name, value in (scores | {name: record.get(name, 0) for name in ("seconds", "finished", "ranks")}).items():
        _require(isinstance(value, int | float), f"{name[:80]!r} of {node} is not a number")


def _packed(stage: str, node: Folder, record: Mapping[str, Any], brought: Iterable[str]) -> dict[str, Any]:
    """Return a node as an entry, whose record lists the products that are not brought as left behind."""
    known = record["products"] | record.get(LEFT_BEHIND, {})
    products = {name: product for name, product in record["products"].items() if name in brought}
    left = {name: product for name, product in known.items() if name not in products}
    files = {name: node.product(name).read_bytes() for name in products}
    if node.log.exists():
        files[LOG] = node.log.read_bytes()
    return {
        "stage": stage,
        "key": node.key,
        "record": dict(record) | {"products": products, LEFT_BEHIND: left},
        "files": {name: base64.b64encode(lzma.compress(content, preset=9)).decode() for name, content in files.items()},
    }


def _plain(packed: str) -> bytes:
    """Return the content of a packed file. Raises ValueError or LZMAError if it is damaged or too large."""
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * LARGEST)
    content = reader.decompress(base64.b64decode(packed, validate=True), max_length=LARGEST + 1)
    _require(len(content) <= LARGEST, f"a file in it has more than {LARGEST >> 20} MiB")
    _require(reader.eof and not reader.unused_data, "a file in it is truncated, or followed by other data")
    return content


def _unpack(entry: Mapping[str, Any], node: Folder) -> bool:
    """Write a node into a store, its record last; return False if the store has it, or has begun to compute it."""
    node.create()
    try:
        with held(node.lock, wait=False):
            if node.record() is not None or node.states.exists():  # done, or begun with a saved state
                return False
            node.clear()
            for name, packed in entry["files"].items():
                write_bytes(node.product(name), _plain(packed))
            write_json(node.product(RECORD), entry["record"])
    except Locked:
        return False
    return True
