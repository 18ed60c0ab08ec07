"""The commands in a block of shell, and whether `dae-ssl` would understand them: its parser is asked, nothing runs."""

import re
import shlex
from argparse import Namespace
from collections.abc import Collection, Iterator, Sequence
from functools import cache

import dae_ssl.training.methods  # noqa: F401  (registers every method)
import jobs.__main__
from dae_ssl import experiments
from dae_ssl.config import ConfigError, closest
from jobs import asked, profiles, settings

_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*")
_DOTS = re.compile(r"(\.\.\.|…)$")
_KEY = re.compile(r"[0-9a-f]{3,16}")
_UNKNOWN = re.compile(r"unknown setting (?P<setting>[\w.]+)|unknown experiment '(?P<experiment>[^']*)'"
                      r"|[\w.-]+='(?P<value>[^']*)': ")  # fmt: skip
_STAND_IN = {"--profile": "local", "--device": "cpu", "--scale": "demo", "--only": "pretrain",
             "method": "dae", "method.embedding": "l2"}  # fmt: skip
"""What stands for a placeholder where one of some names is wanted; behind any other flag 1 does."""
_OTHERS = ("which", "command", "type", "pip", "uv", "echo", "grep", "register-python-argcomplete")
"""Commands that may name `dae-ssl` without starting it."""
_CONTAINERS = ("docker", "podman", "apptainer", "singularity")


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line of shell with its number from 1: joined where it goes on, comments and heredocs left out."""
    lines, number = text.splitlines(), 0
    while number < len(lines):
        start, statement, end = number + 1, lines[number], None
        number += 1
        while _goes_on(statement) and number < len(lines):
            statement = f"{statement.removesuffix(chr(92))}\n{lines[number]}"
            number += 1
        statement = _uncommented(statement)
        if begun := _HEREDOC.search(statement):
            statement, end = _HEREDOC.sub("", statement), begun[2]
        while end is not None and number < len(lines):
            number += 1
            if lines[number - 1].strip() == end:
                break
        if statement.strip():
            yield start, statement


def _goes_on(statement: str) -> bool:
    return statement.endswith("\\") or _quote(_uncommented(statement)) != ""


def _quote(text: str) -> str:
    """Return the quote that is open at the end of a text, if one is."""
    return next((quote for _, quote in reversed([*_quoted(text)])), "")


def _quoted(text: str) -> Iterator[tuple[str, str]]:
    """Yield each character with the quote that is open behind it, "" for none."""
    quote, escaped = "", False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        yield character, quote


def _uncommented(statement: str) -> str:
    found, before, comment = "", " ", False
    for character, quote in _quoted(_without_apostrophes(statement)):
        comment = (comment and character != "\n") or (character == "#" and not quote and before.isspace())
        found += "" if comment else character
        before = character
    return found


def _without_apostrophes(statement: str) -> str:
    """Return a statement in which a comment has no quotes, which would open there and end nowhere."""
    lines = []
    for line in statement.split("\n"):
        before, mark, comment = line.partition(" #") if not line.startswith("#") else ("", "#", line[1:])
        plain = before.count("'") % 2 == before.count('"') % 2 == 0
        lines.append(before + mark + re.sub("['\"]", "", comment) if plain else line)
    return "\n".join(lines)


def started(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the arguments of each `dae-ssl` that a block of shell starts, in whatever it is wrapped."""
    for line, statement in statements(text):
        reader = shlex.shlex(statement, posix=True, punctuation_chars=";&|()<>")
        reader.whitespace_split, reader.commenters = True, ""
        command = list[str]()
        for token in [*reader, ";"]:
            if set(token) <= set(";&|()"):
                if (arguments := _arguments(command)) is not None:
                    yield line, arguments
                command = []
            else:
                command.append(token)


def _arguments(command: Sequence[str]) -> list[str] | None:
    """Return the arguments of `dae-ssl` in a simple command, or None if it starts none."""
    words = _unredirected(command)
    if not words or words[0] in _OTHERS:
        return None
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        if word == "dae-ssl" or word.endswith("/dae-ssl"):
            return rest
        if word == "-m" and rest[:1] == ["jobs"]:
            return rest[1:]
        if word.endswith("cell.sbatch"):
            return ["compute", *rest]
        image = word == "dae_ssl" or word.startswith("dae_ssl:") or word.endswith("dae_ssl.sif")
        if image and words[0] in _CONTAINERS and "run" in words[:2] and "--entrypoint" not in words[:place]:
            return rest
    return None


def _unredirected(command: Sequence[str]) -> list[str]:
    words, skipped = list[str](), False
    for word in command:
        if set(word) <= set("<>&"):
            skipped = True
            if words and words[-1].isdigit():
                words.pop()
        elif skipped:
            skipped = False
        else:
            words.append(word)
    return words


# ---------------------------------------------------------------------------------- would they be understood?


def check(arguments: Sequence[str], defined: Collection[str] = (), *, whole: bool = True) -> None:
    """Raise ConfigError for a command line that `dae-ssl` would refuse: an unknown verb, flag, setting or experiment.

    Words in capitals, `...` and variables of the shell stand for anything. `defined` are names that the page defines
    itself. A command that is not `whole` may leave out what it acts on, as one in the middle of a sentence does.
    """
    refusal = _refusal(tuple(_filled(arguments)), whole)
    unknown = _UNKNOWN.match(refusal)
    name = next((part for part in unknown.groups() if part), "") if unknown else ""
    if refusal and name.rpartition(".")[2] not in defined:
        raise ConfigError(refusal)


@cache
def _refusal(words: tuple[str, ...], whole: bool) -> str:
    """Return how `dae-ssl WORDS` would be refused, "" if it would not be; many pages name the same commands."""
    if not words or words[0] in ("-h", "--help") or _PLACEHOLDER.fullmatch(words[0]):
        return ""
    verb, *further = words
    if verb not in jobs.__main__.VERBS:
        return f"unknown verb {verb!r}: {closest(verb, jobs.__main__.VERBS)}"
    if {"-h", "--help"} & {*further}:
        return ""
    try:
        given = jobs.__main__.parser(verb)[1].read(further)
        named, changes = asked.apart(vars(given).get("words") or [])
        if whole or named or changes:
            _settings(verb, given, named, changes)
    except ConfigError as error:
        return str(error)
    return ""


def _filled(arguments: Sequence[str]) -> Iterator[str]:
    """Yield arguments with something in the place of what stands for anything."""
    flag = ""
    for argument in arguments:
        word = _DOTS.sub("", argument)
        name, equals, value = word.partition("=")
        stands = _PLACEHOLDER.fullmatch(value if equals else word) is not None or "$" in word
        file = word.endswith((".yaml", ".yml"))
        if flag == "--profile" and (file or stands):
            yield "local"
        elif name == "--profile" and equals and (file or stands):
            yield "--profile=local"
        elif stands and flag:
            yield _STAND_IN.get(flag, "1")
        elif stands and equals:
            known = name in _STAND_IN or name.startswith("--")
            yield from [f"{name}={_STAND_IN.get(name, '1')}"] if known else []
        elif word == "EXPERIMENT":
            yield "tour"
        elif word and word != "name=value":
            yield word
        flag = word if word.startswith("--") and not equals else ""


def _settings(verb: str, given: Namespace, named: Sequence[str], changes: Sequence[str]) -> None:
    """Raise ConfigError for an experiment, a profile or a setting that is not there."""
    values = vars(given)
    if verb == "run":
        from jobs import run

        words = [word for word in run.overrides(given) if word.partition("=")[0] not in run.CONDITIONS]
        run.check(words, several=values["multirun"])
        if not values["multirun"] and not any(word.startswith(("hydra", "+")) for word in changes):
            settings.composed(changes, values)
        return
    if "seeds" in values and not (named and _of_a_cell(named[0])) and (named or not changes):
        values["words"] = [*named[:1], *changes]
        asked.experiment(given)
        return
    if isinstance(values.get("profile"), str):
        profiles.profile(values["profile"])
    for cell in (changes, [word for word in values.get("other") or [] if "=" in word]):
        if cell and "words" in values:
            settings.composed(cell, values)


def _of_a_cell(word: str) -> bool:
    """Return whether a word stands for a cell, by its key or by a placeholder."""
    is_key = _KEY.fullmatch(word) is not None or _PLACEHOLDER.fullmatch(word) is not None or "$" in word
    return is_key and word not in experiments.names()
