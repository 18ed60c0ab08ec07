"""The command as a whole: its verbs, one help, one form of errors, quick answers, completion, and what texts name."""

import ast
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dae_ssl import config, experiments
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from jobs import endings
from jobs.__main__ import VERBS, main, parser
from tests.commanded import DAE_SSL, ask, given, run, started
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
SHARED = {"asked", "board", "endings", "former", "grammar", "here", "profiles", "scales", "settings", "terminal",
          "values"}  # fmt: skip
"""Modules of jobs that are no verb."""


def test_table_has_every_verb_and_its_modules_first_line() -> None:
    modules = {path.stem for path in (ROOT / "jobs").glob("[a-z]*.py")} - SHARED
    assert modules == VERBS.keys()
    for verb, line in VERBS.items():
        docstring = ast.get_docstring(ast.parse((ROOT / "jobs" / f"{verb}.py").read_text())) or ""
        assert docstring.splitlines()[0] == line
        assert f"dae-ssl {verb}" in docstring, "an example"
        assert len(line) <= 64, "it would be two lines of the help"


def test_help_lists_every_verb_in_a_line_and_costs_next_to_nothing() -> None:
    for words in ((), ("--help",), ("-h",)):
        done = started(*words)
        assert done.returncode == 0
        assert all(re.search(rf"^ +{verb} +{re.escape(line)}$", done.stdout, re.M) for verb, line in VERBS.items())


@pytest.mark.parametrize("verb", [*VERBS, "results save", "results load"])
def test_help_of_a_verb_names_its_flags_and_the_store(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*verb.split(), "--help"])
    printed = capsys.readouterr().out
    assert (end.value.code, printed.startswith(f"usage: dae-ssl {verb}")) == (0, True)
    assert ("--store" in printed) is (verb != "results"), "every verb knows the store"


IMPORTED = """
import sys
from jobs.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_answered_without_heavy_libraries(verb: str) -> None:
    """Which is what makes it quick: a tenth of a second of a processor, most of it Python's own start."""
    command = [sys.executable, "-c", IMPORTED, *verb.split(), "--help"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)  # noqa: PLW1510
    heavy = {"torch", "numpy", "scipy", "h5py", "hydra", "omegaconf", "mlflow", "submitit", "rich", "argcomplete"}
    assert "jobs" in done.stderr.split(), done.stderr
    assert not heavy & set(done.stderr.split())


# ---------------------------------------------------------------------------------- one form of errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exlain"], "unknown verb exlain: did you mean explain? choose data, run"),
        (["tour"], "tour is an experiment, not a verb: write a verb before it, such as dae-ssl plan tour"),
        (["explain", "method=dae", "--and"], "--and needs a value: write --and NAME=VALUE ..."),
        (["--store", "S", "plan"], "unknown verb --store: choose data"),
        (["explain", "methd=dae"], "the method is missing: write method=NAME, where NAME is one of ae, dae"),
        (["explain", "method=dea"], "method='dea': did you mean dae? choose ae"),
        (["explain", "method=dae", "method.alfa=1"], "unknown setting method.alfa: did you mean method.alpha?"),
        (["explain", "method=dae", "--scael", "demo"], "unknown flag --scael: did you mean --scale? choose from"),
        (["explain", "method=dae", "--scale", "dmo"], "--scale='dmo': did you mean demo? choose demo"),
        (["explain", "method=dae", "--store"], "--store needs a value: write --store FOLDER"),
        (["explain", "method=dae", "--store", "--scale", "demo"], "--store needs a value"),
        (["explain", "--", "-x"], "no cell in store has a key that begins with '-x': `dae-ssl status"),
        (["plan", "tuor"], "unknown experiment 'tuor': did you mean tour? choose"),
        (["plan", "tour", "--profile", "gpu5"], "--profile='gpu5': did you mean gpu4? choose dev"),
        (["report", "tuor"], "'tuor' is neither an experiment nor the beginning of a cell's key in "),
        (["run", "method=dae", "method.alpha=-1"], "method.alpha=-1.0: choose 0 or more"),
        (["run", "mehtod=dae"], "the method is missing"),
        (["run", "method=dae", "--device", "gpu"], "--device='gpu': did you mean cpu? choose auto, cpu, cuda"),
        (["sync", "tour"], "'tour' is one word too many: dae-ssl sync takes only flags"),
        (["logs", "3f", "pretrian"], "'3f pretrian': did you mean pretrain? name one cell"),
        (["logs", "3f", "--lines", "-1"], "--lines='-1': choose a whole number, at least 1"),
        (["results"], "choose dae-ssl results save or dae-ssl results load"),
        (["results", "sav"], "unknown word 'sav' after dae-ssl results: did you mean save? choose"),
        (["submit", "tour", "--minutes", "soon"], "--minutes='soon': choose a number above 0"),
        (["data", "mine", "--download", "--from", "x"], "--from: not allowed with argument --download"),
        (["status", "tour", "--watch=yes"], "--watch=yes: --watch takes no value"),
        (["compute"], "no cell is named: give keys of cells"),
        (["server"], "FOLDER='': choose one folder"),
        (["server", "x", "--port", "65536"], "--port='65536': choose a whole number, at least 1 and at most 65535"),
        ([""], "unknown verb '': choose data"),
        (["sta\ntus"], "unknown verb sta\\ntus: did you mean status?"),
        (["x" * 5000], f"unknown verb {'x' * 500}... choose data"),
        (["status", "tour", "--profile", "x" * 5000], f"--profile='{'x' * 480}"),
        (
            ["status", "tour", "--store", __file__],
            f"--store={__file__!r}: choose another path, since {__file__} is not",
        ),
        (["clean", "--yes", "--store", f"{__file__}/below"], f"--store='{__file__}/below': choose another path"),
        (["run", "method=dae", "seed=1,2"], "seed=1,2 has more than one value: --multirun computes a cell for each"),
        (["run", "-m", "method=dae", "--cfg", "job"], "--cfg, --info and --multirun exclude one another"),
        (["compute", "method=dae", "--save-seconds", "nan"], "--save-seconds='nan': choose a number above 0"),
    ],
)
def test_mistake_is_one_line_and_code_2(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAE_SSL_STORE", raising=False)
    try:
        code = main(words)
    except SystemExit as end:  # which is how it comes through Hydra
        code = end.code
    assert code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {said}")
    assert (printed.err.count("\n"), printed.out) == (1, "")
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_what_ends_a_command_is_decided_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert endings.ended(StoreError("the disk is full")) == 2
    assert endings.ended(KeyboardInterrupt()) == 130
    assert endings.ended(ModuleNotFoundError(name="hydra.core")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error"] * 3
    assert "pip install hydra-core" in lines[2]
    for ours in (KeyError("a bug"), ModuleNotFoundError(name="dae_ssl.nothing")):
        with pytest.raises(type(ours)):
            endings.ended(ours)


def test_interrupt_from_a_terminal_is_one_line_and_130() -> None:
    code = """
import sys, time
import jobs.explain
from jobs.__main__ import main
def slow(given):
    print("up", flush=True)
    time.sleep(3600)
jobs.explain.run = slow
sys.exit(main(["explain", "method=ae"]))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (
        130,
        "error: interrupted; everything that was submitted, computed or saved is kept\n",
    )


def test_reader_who_has_seen_enough_ends_it_silently() -> None:
    shell = f"{shlex.join(DAE_SSL)} plan study --store /nowhere | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("plan tour >&-", 0, ""),
        ("plan toor 2>&-", 2, ""),
        ("plan tour >/dev/full", 2, "error: standard output: No space left on device\n"),
    ],
)
def test_nowhere_to_print_is_no_traceback(shell: str, code: int, said: str, tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", f"{shlex.join(DAE_SSL)} {shell}"], cwd=tmp_path, capture_output=True, env=env,
                          text=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert (done.returncode, done.stderr) == (code, said)


def test_letters_that_a_terminal_does_not_know_are_written_as_their_numbers() -> None:
    done = started("status", "tour", "--store", "/nowhere", PYTHONIOENCODING="ascii", PYTHONPATH=str(ROOT))
    assert (done.returncode, done.stderr) == (0, "")
    assert "DAE, L2, \\u03b1 = 1, seed 0" in done.stdout


def test_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    shell = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {shlex.join(DAE_SSL)} status tour"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
                          text=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: the current folder no longer exists: change to another one\n"


# ---------------------------------------------------------------------------------- words and flags


def test_words_flags_and_settings_come_in_any_order() -> None:
    arguments = ["tour", "--seeds", "0,1", "optimisation.epochs=2", "--store=S", "views.crop=20", "--no-floors"]
    first = ask(arguments)
    turned = ask(["optimisation.epochs=2", "--no-floors", "--store", "S", "views.crop=20", "tour", "--seeds=0,1"])
    assert [config.cell_key(cell) for cell in first.cells] == [config.cell_key(cell) for cell in turned.cells]
    assert first.same == turned.same
    assert first.same == ["tour", "optimisation.epochs=2", "views.crop=20", "--seeds", "0,1", "--store", "S",
                          "--no-floors"]  # fmt: skip


def test_flag_with_a_value_that_may_be_left_out_takes_no_setting_for_it() -> None:
    assert given("submit", ["tour", "--weights", "optimisation.epochs=2", "--archive=a"]).weights is True
    assert given("submit", ["--weights", "W", "tour"]).weights == "W"


def test_store_is_that_of_the_flag_then_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAE_SSL_STORE", "there")
    for verb in VERBS:
        for leaf in parser(verb)[1].leaves():
            assert leaf.get_default("store") == Path("there"), verb
    assert given("sync", ["--store", "here"]).store == Path("here")
    monkeypatch.delenv("DAE_SSL_STORE")
    assert given("sync").store == Path("store")


def test_cell_is_named_by_its_key_or_by_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dae_ssl.compute import cells
    from dae_ssl.store import Store

    cell = config.cell(method="dae", seed=7)
    key = cells.describe(cell, Store(tmp_path)).key
    run("explain", [key[:7], f"--store={tmp_path}"])
    by_key = capsys.readouterr().out
    run("explain", ["method=dae", "seed=7"])
    assert by_key == capsys.readouterr().out
    assert by_key.startswith(key)
    run("logs", [key[:7], "probe", f"--store={tmp_path}"])
    assert capsys.readouterr().out == f"== probe {config.key(cell, 'probe')}: not done\n"
    with pytest.raises(StoreError, match=r"no cell in .* has a key that begins with 'ffff'"):
        run("explain", ["ffff", f"--store={tmp_path}"])
    with pytest.raises(ConfigError, match="is combined with other words"):
        run("explain", [key, "seed=1", f"--store={tmp_path}"])


def test_dry_run_sends_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("submit", ["tour", "--dry-run", f"--store={tmp_path / 'store'}"]) == 0
    assert "7 arrays to submit:\n  pretrain-0" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()


# ---------------------------------------------------------------------------------- completion


def completed(line: str) -> list[str]:
    """Return what a shell would be offered after a line that is begun."""
    pytest.importorskip("argcomplete")
    variables = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\013", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                 "COMP_TYPE": "9", "_ARGCOMPLETE_SUPPRESS_SPACE": "1", "PYTHONPATH": str(ROOT)}  # fmt: skip
    command = [sys.executable, "-m", "jobs"]
    program = f"exec 8>&1; exec {shlex.join(command)} 2>/dev/null"
    done = subprocess.run(["bash", "-c", program], env=os.environ | variables, capture_output=True, text=True,
                          check=False, timeout=PATIENCE)  # fmt: skip
    return done.stdout.split("\013")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dae-ssl ex", ["explain"]),
        ("dae-ssl plan --mlf", ["--mlflow-experiment"]),
        ("dae-ssl plan tou", ["tour"]),
        ("dae-ssl plan tour optimisation.ep", ["optimisation.epochs="]),
        ("dae-ssl plan tour --profile gpu4-", ["gpu4-packed"]),
        ("dae-ssl plan tour --scale mini", ["miniature"]),
        ("dae-ssl run meth", [*(f"method={name}" for name in sorted(config.Method.registry))]),
        ("dae-ssl run method.al", ["method.alpha="]),
        ("dae-ssl results s", ["save"]),
        ("dae-ssl results save tou", ["tour"]),
    ],
)
def test_shell_is_offered_what_may_follow(line: str, offered: list[str]) -> None:
    found = {word.strip() for word in completed(line)}
    assert set(offered) <= found
    assert len(found) < 30


def test_experiments_that_a_shell_is_offered_are_all_there_are() -> None:
    assert set(experiments.names()) <= {word.strip() for word in completed("dae-ssl submit ")}


# ---------------------------------------------------------------------------------- what texts tell to type


def documented() -> list[str]:
    """Return the commands in the help of every verb; those of pages are looked at with the pages."""
    docstrings = [importlib.import_module(f"jobs.{verb}").__doc__ or "" for verb in VERBS]
    return [line for text in docstrings for line in re.findall(r"^  (dae-ssl .*?)(?: {3,}.*)?$", text, re.MULTILINE)]


@pytest.mark.parametrize("line", dict.fromkeys(documented()))
def test_command_that_a_text_tells_to_type_is_understood(line: str) -> None:
    words = shlex.split(re.sub(r".*?(?:dae-ssl|-m jobs) ", "", line, count=1))
    verb, *arguments = [word.strip("[]") for word in words if word not in ("...", "KEY...")]
    known = given(verb, arguments)
    if verb in ("plan", "submit", "status", "cancel", "check") and known.words:
        ask(arguments, verb)


def test_no_text_tells_to_type_what_was_before() -> None:
    stale = re.compile(r"python3? -m jobs\.\w|\bjobs\.(run_cell|prepare_data|run_nodes|sync_mlflow|mlflow_server)\b")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [ROOT / name for name in tracked.splitlines()] or sorted(ROOT.rglob("*.py"))
    about_it = {ROOT / "jobs" / "former.py", Path(__file__), ROOT / "tests" / "jobs" / "test_former.py"}
    texts = (path for path in paths if path.suffix in (".py", ".md", ".sh", ".sbatch", ".yaml", ".toml", ""))
    found = [str(path) for path in texts if path.is_file() and path not in about_it
             and stale.search(path.read_text(errors="replace"))]  # fmt: skip
    assert found == []
