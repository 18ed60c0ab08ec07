"""profile.md: every key of a cluster's profile, and of what a stage asks for in it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from dae_ssl.compute.resources import Resources
from dae_ssl.planning.profile import PASSED, Profile
from docs.generate import markdown, notes, takes

INTRODUCTION = """\
A profile describes a cluster: a YAML file, given by `--profile FILE.yaml`, or by its bare name where it lies in
`slurm/profiles/`. `--profile local`, this machine, needs no file. What a profile leaves out is at its default;
`dae-ssl check EXPERIMENT --profile FILE.yaml` says what does not fit before anything is queued."""
STAGES = """\
`stages` has a mapping for each of `pretrain`, `features`, `probe` and `kmeans`, in which each of these may stand, as in
`stages: {pretrain: {gpus_per_machine: 1, minutes: 240}}`. They describe one task of the stage."""
HEAD = ("key", "takes", "default", "meaning")


def page() -> str:
    """Return the page. Raises ValueError for a key without a note."""
    own = [field.name for field in fields(Profile) if field.name not in ("name", "stages")]
    each = [field.name for field in fields(Resources)]
    return markdown.page(
        "The profile of a cluster", INTRODUCTION, "## The cluster", _table(Profile, own, _profile),
        "## What a stage asks for", STAGES, _table(Resources, each, _resources),
    )  # fmt: skip


def _profile(given: Mapping[str, Any]) -> Profile:
    return Profile.of("a", given)


def _resources(given: Mapping[str, Any]) -> Profile:
    return Profile.of("a", {"stages": {"pretrain": given}})


def _table(kind: type[Any], names: Sequence[str], build: takes.Build) -> str:
    known, defaults = notes.of_fields(kind, names, sources=False), {field.name: field for field in fields(kind)}
    rows = [
        [markdown.code(name), takes.taken(kind, name, build), _default(name, takes.default(defaults[name])),
         known[name].meaning]
        for name in names
    ]  # fmt: skip
    return markdown.table(HEAD, rows)


def _default(name: str, written: str) -> str:
    return ", ".join(map(markdown.code, PASSED)) if name == "pass_environment" else markdown.code(written)
