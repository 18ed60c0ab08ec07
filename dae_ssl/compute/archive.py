"""Finished nodes <-> a file of numbers: what was measured, with where it comes from, without weights and features.

A line of JSON for each cell, then for each node: its commit record with scores, versions, device and seconds; and
its log and its small products, compressed. Loaded into another store such a node counts as done, since its numbers are
there; its record names what was left behind, and it is computed again only if something is to be read from that.
Encoders travel beside the file, in a folder that `encoders` knows.
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
"""Products that are numbers."""
LARGEST = 64 << 20
"""Bytes of a file in an entry; the largest are a training's pictures, of some hundred thousand."""
DEEPEST = 20
"""Lists and objects within each other in an entry; a record has seven."""
LONGEST_REASON = 300
"""Characters of what is wrong with a line."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_KEY, _SHA256 = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")


class ArchiveError(StoreError):
    """A file of results that cannot be read or trusted; the message is one line with the place and the reason."""


@dataclass
class Archive:
    """The lines of a file of results."""

    cells: dict[str, dict[str, Any]]
    """Settings by the cell's key."""
    nodes: dict[tuple[str, str], dict[str, Any]]
    """Record, log and products by stage and key."""

    @classmethod
    def read(cls, path: Path) -> "Archive":
        """Read a file, or nothing where there is none yet. Raises ArchiveError for what is not such a file."""
        found = cls({}, {})
        if not path.exists():
            return found
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{path} is no file of results: {error}") from error
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                _require_plain(entry)
                _require(isinstance(entry, dict), "no JSON object")
                if "cell" in entry:
                    _require(_KEY.fullmatch(str(entry["cell"])) and isinstance(entry["settings"], dict), "no cell")
                    found.cells[entry["cell"]] = entry["settings"]
                else:
                    _check(entry)
                    found.nodes[entry["stage"], entry["key"]] = entry
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, lzma.LZMAError) as error:
                raise ArchiveError(f"{path}, line {number}: no result, or a damaged one: {_reason(error)}") from error
        return found

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; the same results give the same bytes."""
        entries = [{"cell": key, "settings": settings} for key, settings in sorted(self.cells.items())]
        entries += [entry for _, entry in sorted(self.nodes.items(), key=lambda item: (_order(item[0][0]), item[0][1]))]
        lines = (json.dumps(entry, sort_keys=True, ensure_ascii=False, allow_nan=False) for entry in entries)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())

    def add(self, wanted: Iterable[Cell], store: Store, *, pictured: Iterable[Cell] = ()) -> int:
        """Take what a store has done of some cells, and return how many nodes are new or others than before.

        Of `pictured` cells also the example pictures of the last epoch are taken. The store's node takes the place of
        one in the file that has other products or fewer of them, so that children never stand beside a parent that
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
                if _tells_more(entry, self.nodes.get((stage, node.key))):
                    self.nodes[stage, node.key] = entry
                    changed += 1
        return changed

    def load(self, store: Store) -> int:
        """Put every node that a store lacks into it, and return how many; what it has stays as it is."""
        for cell in self.described():
            cells.describe(cell, store)
        return sum(_unpack(entry, store.node(stage, key)) for (stage, key), entry in self.nodes.items())

    def described(self) -> list[Cell]:
        """Return the cells. Raises ArchiveError for one that this version does not know."""
        known = []
        for key, settings in self.cells.items():
            try:
                known.append(config.cell(settings))
            except ConfigError as error:
                raise ArchiveError(f"cell {key} is none that this version knows: {_reason(error)}") from error
            if config.cell_key(known[-1]) != key:
                raise ArchiveError(f"cell {key} is not the key of its settings")
        return known

    def records(self, cell: Cell) -> dict[str, dict[str, Any]]:
        """Return the commit records of a cell's stages that count as done."""
        entries = {stage: self.nodes.get((stage, key)) for stage, key in config.keys(cell).items()}
        return done.counted(cell, {stage: entry["record"] for stage, entry in entries.items() if entry is not None})


class File:
    """A file of results that several commands may add to at the same time, none of which loses another's numbers.

    What it holds is kept in memory, and read again where another process has written the file since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = Archive({}, {})
        self._as_of: tuple[int, ...] | None = _ABSENT

    @contextlib.contextmanager
    def adding(
        self, wanted: Iterable[Cell], store: Store, *, pictured: Iterable[Cell] = ()
    ) -> Iterator[tuple[Archive, int]]:
        """Add what a store has done of some cells, and give all that the file holds and how many nodes are new.

        No other command adds to the file before the block has ended, which may write what lies beside it. Raises
        ArchiveError for a file of something else, StoreError for one that cannot be written.
        """
        require_replaceable(self.path)  # before it is read, for which a pipe would have it wait
        lock = self.path.with_name(f".{self.path.name}.lock")
        with held(lock, wait=True, tell=lambda _: print(f"waiting for {self.path}: another command adds to it")):
            if self._as_of is None or _as_of(self.path) != self._as_of:
                self._archive = Archive.read(self.path)
            self._as_of = None  # if it cannot be written, memory has more than the file, and is not to be trusted
            new = self._archive.add(wanted, store, pictured=pictured)
            self._archive.write(self.path)
            self._as_of = _as_of(self.path)
            yield self._archive, new


_ABSENT: tuple[int, ...] = ()


def _as_of(path: Path) -> tuple[int, ...]:
    """Return what tells whether another process has written a file since: nobody has while it is the same."""
    return identity(path) if path.exists() else _ABSENT


def _tells_more(entry: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Tell whether a node has other products than the known one, or other parents, or brings more of the same."""
    if known is None or products_digest(entry["record"]) != products_digest(known["record"]):
        return True
    if entry["record"].get("parent") != known["record"].get("parent"):
        return True
    return not entry["files"].keys() <= known["files"].keys()


def _reason(error: Exception) -> str:
    """Return what is wrong as one short line, whatever the file holds that it repeats."""
    text = str(error) if type(error) in (ValueError, ConfigError) else f"{type(error).__name__}, {error}"
    text = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    return text if text.isprintable() else ascii(text)


def _order(stage: str) -> int:
    return config.STAGES.index(stage)


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _require_plain(value: Any, deepest: int = DEEPEST) -> None:
    """Raise ValueError for JSON that cannot be written again, or that what reads a record does not expect."""
    if isinstance(value, dict | list):
        _require(deepest, f"something in it is more than {DEEPEST} deep")
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _require_plain(inner, deepest - 1)
    elif isinstance(value, str):
        value.encode()  # raises a ValueError for half a character
    elif isinstance(value, int | float):
        small = math.isfinite(value) if isinstance(value, float) else value.bit_length() <= 64
        _require(small, "a number in it is not finite, or of more than 64 bits")


def _check(entry: Mapping[str, Any]) -> None:
    """Raise ValueError for a node that is not what it says: another key than its settings have, other bytes.

    All that loading takes is looked at here, so that it cannot fail half way.
    """
    stage, key, record, files = (entry[name] for name in ("stage", "key", "record", "files"))
    node = f"{str(stage)[:20]} {str(key)[:20]}"
    _require(isinstance(record, dict) and isinstance(files, dict), f"{node} has no record or no files")
    its_own = stage in config.STAGES and record["settings"].get("stage") == stage
    _require(its_own and key == config.key_of(record["settings"]), f"{node} is not the key of its settings")
    products, left = record["products"], record.get(LEFT_BEHIND, {})
    _require(isinstance(products, dict) and isinstance(left, dict), f"{node} does not tell its products")
    for name in sorted(files.keys() - {LOG} | products.keys() | left.keys()):
        _require(_is_product(name), f"{name[:80]!r} is no product's name")
    for facts in (*products.values(), *left.values()):
        whole = type(facts["bytes"]) is int and facts["bytes"] >= 0 and _SHA256.fullmatch(str(facts["sha256"]))
        _require(whole, f"{node} names a product without its size and SHA-256")
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
    """Raise ValueError where a page or a plan would count with something else than a number."""
    scores = record.get(SCORES, {})
    _require(isinstance(scores, dict), f"{node} has no {SCORES} with names")
    for name, value in (scores | {name: record.get(name, 0) for name in ("seconds", "finished", "ranks")}).items():
        _require(isinstance(value, int | float), f"{name[:80]!r} of {node} is no number")


def _packed(stage: str, node: Folder, record: Mapping[str, Any], brought: Iterable[str]) -> dict[str, Any]:
    """Return a node as an entry: its record names as left behind what is not brought."""
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
    """Return what a text of an entry holds. Raises ValueError or LZMAError for a damaged one, or a very large one."""
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * LARGEST)
    content = reader.decompress(base64.b64decode(packed, validate=True), max_length=LARGEST + 1)
    _require(len(content) <= LARGEST, f"a file in it has more than {LARGEST >> 20} MiB")
    _require(reader.eof and not reader.unused_data, "a file in it is cut, or followed by something")
    return content


def _unpack(entry: Mapping[str, Any], node: Folder) -> bool:
    """Write a node into a store, its record last; return False if it is there, begun or being computed."""
    node.create()
    try:
        with held(node.lock, wait=False):
            if node.record() is not None or node.states.exists():  # done, or begun here with a state to go on from
                return False
            node.clear()
            for name, packed in entry["files"].items():
                write_bytes(node.product(name), _plain(packed))
            write_json(node.product(RECORD), entry["record"])
    except Locked:
        return False
    return True
