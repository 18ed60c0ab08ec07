"""Every command on every page is one that works: it runs here, or is at least understood and says why it does not run.

A block of `sh` or `python` runs unless the line before it is `<!-- not run: REASON -->`. The blocks of a page run in
order, in one folder that is empty at first, with `dae-ssl` and `python` on the PATH and the repository in $REPOSITORY.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dae_ssl.config import STAGES, ConfigError
from dae_ssl.planning.profile import Profile
from jobs import profiles
from tests.docs import commands
from tests.docs.pages import MISSPELT, OTHERS, PAGES, ROOT, RUN, Block, Page, page

SECONDS = 600
"""What a block may take."""
TRAP = "trap 'echo \"failed in line $((LINENO + {before})): $BASH_COMMAND\" >&2' ERR; "

# ---------------------------------------------------------------------------------- what is understood


def not_understood(shown: Page) -> list[str]:
    """Return one line for each block and command of a page that could not work."""
    try:
        blocks = list(shown.blocks())
    except ValueError as error:
        return [str(error)]
    defined = words_defined(blocks)
    found = []
    for block in blocks:
        if block.kind in MISSPELT:
            found.append(f"{block.place}: a block is called {block.kind!r}: write {MISSPELT[block.kind]!r}")
        elif block.kind not in (*RUN, *OTHERS) and not block.kind.startswith("{"):
            found.append(f"{block.place}: {block.kind!r} is no kind of block: choose {', '.join((*RUN, *OTHERS))}")
        elif block.kind == "sh":
            found += [*refused(block, defined)]
        elif block.kind == "yaml" and (why := of_yaml(block)):
            found.append(f"{block.place}: {why}")
    for line, span in shown.spans():
        if span.startswith("dae-ssl "):
            found += [f"{shown.name}:{line}: `{span}`: {why}" for why in refusals(span, defined, whole=False)]
    return found


def refused(block: Block, defined: set[str]) -> Iterator[str]:
    """Yield one line for each `dae-ssl` of a block that the command would refuse."""
    for line, arguments in commands.started(block.text):
        try:
            commands.check(arguments, defined)
        except ConfigError as error:
            yield f"{block.page}:{block.line + line - 1}: dae-ssl {' '.join(arguments)}: {error}"


def refusals(span: str, defined: set[str], *, whole: bool) -> Iterator[str]:
    """Yield why the command in a code span would be refused."""
    for _, arguments in commands.started(span):
        try:
            commands.check(arguments, defined, whole=whole)
        except ConfigError as error:
            yield str(error)


def words_defined(blocks: Iterable[Block]) -> set[str]:
    """Return what a page itself gives a name: in its programs, and by files of settings and code."""
    programs = " ".join(block.text for block in blocks if block.kind == "python")
    files = (name for block in blocks for name in re.findall(r"([\w-]+)\.(?:yaml|py)\b", block.text))
    inline = (text for block in blocks if block.kind == "sh" and "<<" in block.text for text in [block.text])
    return {*re.findall(r"\w+", programs), *files, *re.findall(r"\w+", " ".join(inline))}


def of_yaml(block: Block) -> str:
    """Return what is wrong with a block of YAML, which is validated where it is a profile; "" for nothing."""
    try:
        given: Any = yaml.safe_load(block.text)
        keys = set(given) if isinstance(given, dict) else set()
        if keys & (Profile.__dataclass_fields__.keys() - {"name"}):
            Profile.of("of this page", {"image": None, **given})
        elif keys and keys <= set(STAGES):
            Profile.of("of this page", {"stages": given})
    except (yaml.YAMLError, ConfigError) as error:
        return " ".join(str(error).split())
    return ""


@pytest.mark.parametrize("name", PAGES)
def test_commands_are_understood(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAE_SSL_STORE", raising=False)
    found = not_understood(page(name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sorted(profiles.PROFILES.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_profiles_that_are_shipped_would_pass_as_blocks(path: Path) -> None:
    assert of_yaml(Block("page.md", 1, "yaml", path.read_text(), None)) == ""


# ---------------------------------------------------------------------------------- what runs


def run(blocks: Iterable[Block], folder: Path) -> None:
    """Run blocks in a folder, in order; AssertionError has page, line, command and output of the first that fails."""
    for block in blocks:
        if block.kind not in ("sh", "python") or block.reason is not None:
            continue
        process = subprocess.Popen(
            program(block, folder), cwd=folder, env=environment(folder), start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            output = f"not done after {SECONDS} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.returncode == 0, f"{block.place}: exit {process.returncode}\n{block.text}\n{output}"


def program(block: Block, folder: Path) -> list[str]:
    """Write a block down beside the folder, its lines numbered as on the page, and return what runs it."""
    written = folder.parent / f"{folder.name}-line{block.line}{'.py' if block.kind == 'python' else ''}"
    if block.kind == "python":
        written.write_text("\n" * (block.line - 1) + block.text)
        return ["python", str(written)]
    written.write_text(TRAP.format(before=block.line - 1) + block.text)
    return ["bash", "-Eeuo", "pipefail", str(written)]


def environment(folder: Path) -> dict[str, str]:
    """Return what a block sees: a person's environment, without what belongs to stores, servers or jobs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAE_SSL", "MLFLOW", "SLURM", "SBATCH", "PYTEST"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "REPOSITORY": str(ROOT),
                   "OMP_NUM_THREADS": "1"}  # fmt: skip


def runnable(name: str) -> list[Block]:
    """Return the blocks of a page that run; none of a page with a mark that says nothing, for which there is a test."""
    try:
        return [block for block in page(name).blocks() if block.kind in ("sh", "python") and block.reason is None]
    except ValueError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAGES if runnable(name)])
def test_blocks_run(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    run(runnable(name), folder)


# ---------------------------------------------------------------------------------- what is planted is found

GOOD = [
    "dae-ssl data mine --from ~/images   # any tree, it's all the same",
    "dae-ssl run method=dae method.alpha=1 method.embedding=l2 --scale demo --cfg job",
    "dae-ssl run --multirun method=dae,simclr seed=1,2,3 --profile dev",
    "dae-ssl plan study --profile gpu4 --trial \\\n    optimisation.epochs=2",
    "srun --gpus=4 torchrun --standalone --nproc-per-node=4 -m jobs plan study --profile gpu4 --trial",
    "sbatch --gpus-per-node=4 slurm/cell.sbatch method=simclr seed=5\nsbatch slurm/cell.sbatch KEY...",
    "docker run --rm -v \"$PWD/store:/store\" dae_ssl run method=dae --scale demo",
    "docker run --entrypoint torchrun dae_ssl --standalone -m jobs run method=dae",
    "dae-ssl explain method=dae --and method=dae method.embedding=l1 method.alpha=1 | grep alpha 2>/dev/null",
    "dae-ssl logs CELL && dae-ssl submit EXPERIMENT --minutes N --profile NAME NAME=VALUE ...",
    "dae-ssl report \"$KEY\"; for seed in 1 2; do dae-ssl run method=ae seed=$seed; done",
    "cat > mine.yaml <<'EOF'\ndae-ssl is not started here\nEOF\ndae-ssl check tour --profile mine.yaml",
    "dae-ssl run method=NAME method.embedding=NAME method.alpha=1 optimisation.epochs=N",
    "which dae-ssl\neval \"$(register-python-argcomplete dae-ssl)\"",
    "dae-ssl results save study FILE --scale small --weights\ndae-ssl results load FILE --no-weights",
]  # fmt: skip
BAD = [
    ("dae-ssl trian method=dae", "unknown verb 'trian'"),
    ("dae-ssl run method=dae --skale demo", "unknown flag --skale: did you mean --scale?"),
    ("dae-ssl run method=dea", "did you mean dae?"),
    ("dae-ssl run method=dae method.alfa=1", "did you mean method.alpha?"),
    ("dae-ssl run method=dae views.crop=0", "views.crop=0"),
    ("dae-ssl run method=dae seed=1,2", "--multirun"),
    ("dae-ssl run --multirun method=dae,simclrr", "simclr"),
    ("echo a; dae-ssl plan studdy", "did you mean study?"),
    ("dae-ssl plan", "the name of an experiment is missing"),
    ("dae-ssl plan study --profile gpu5", "did you mean gpu4?"),
    ("dae-ssl submit tour --minutes soon", "--minutes"),
    ("dae-ssl submit tour \\\n  optimisation.epoch=2", "did you mean optimisation.epochs?"),
    ("srun python -m jobs plan study --trail", "did you mean --trial?"),
    ("sbatch slurm/cell.sbatch method=simclr sede=5", "did you mean seed?"),
    ("docker run --rm dae_ssl train", "unknown verb 'train'"),
    ("apptainer run dae_ssl.sif run method=dae --scale tiny", "--scale"),
    ("dae-ssl explain method=dae --and method=dae method.embeding=l1", "did you mean method.embedding?"),
]


@pytest.mark.parametrize("text", GOOD)
def test_commands_that_work_are_understood(text: str) -> None:
    assert not_understood(Page.of("p.md", f"<!-- not run: planted -->\n```sh\n{text}\n```\n")) == []


@pytest.mark.parametrize(("text", "told"), BAD)
def test_planted_command_is_found_whether_it_runs_or_not(text: str, told: str) -> None:
    for mark in ("", "<!-- not run: planted -->\n"):
        (line,) = not_understood(Page.of("p.md", f"{mark}```sh\ntrue\n{text}\n```\n"))
        assert line.startswith(f"p.md:{3 if not mark else 4}: dae-ssl ")
        assert told in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Say `dae-ssl plan` or `dae-ssl results save … --weights` or `dae-ssl VERB --help`.", None),
        ("Say `dae-ssl plan study --trail`.", "p.md:1: `dae-ssl plan study --trail`: unknown flag --trail"),
        ("Say `dae-ssl plans study`.", "unknown verb 'plans': did you mean plan?"),
        ("```bash\ntrue\n```", "p.md:2: a block is called 'bash': write 'sh'"),
        ("```\ntrue\n```", "a block is called '': write 'text'"),
        ("```cobol\ntrue\n```", "'cobol' is no kind of block"),
        ("<!-- not run -->\n```sh\ntrue\n```", "the mark has no reason"),
        ("<!-- not run: -->\n```sh\ntrue\n```", "the mark has no reason"),
        ("<!-- not run: a GPU -->\n\nText.\n\n```sh\ntrue\n```", "the mark above is not on the line before a block"),
        ("```yaml\npartition: gpu\nstages: {pretrain: {gpus_per_machine: 1}}\n```", None),
        ("```yaml\nimage: a.sif\ncontainer: [apptainer, exec, \"${image}\"]\n```", None),
        ("```yaml\npretrain: {packing: 4, gpus_per_machine: 4}\n```", None),
        ("```yaml\nservices: {mlflow: {image: a}}\n```", None),
        ("```yaml\npartition: gpu\nacount: a\n```", "did you mean account?"),
        ("```yaml\nstages: {pretrain: {gpus_per_node: 1}}\n```", "gpus_per_machine"),
        ("```yaml\npretrain: {packing: 4, gpus_per_machine: 2}\n```", "gpus_per_machine=2"),
        ("```yaml\na: [\n```", "p.md:2: while parsing"),
        ("```python\ndef huber(z1, z2): ...\n```\n\n`dae-ssl run method=ae method.embedding=huber`", None),
        ("`dae-ssl run method=dae method.embedding=huber method.alpha=1`", "method.embedding='huber'"),
        ("```sh\ncp a mine.yaml\ndae-ssl plan tour --profile mine\n```", None),
    ],
)  # fmt: skip
def test_planted_block_is_judged(text: str, told: str | None) -> None:
    found = not_understood(Page.of("p.md", f"{text}\n"))
    assert len(found) == bool(told), found
    assert all(told in line for line in found if told)


def of_page(text: str) -> list[Block]:
    return [*Page.of("p.md", text).blocks()]


def test_blocks_run_in_order_in_one_folder_and_those_that_are_marked_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    run(of_page("""
```sh
test -z "$(ls)" && test -z "${DAE_SSL_STORE-}" && test "$OMP_NUM_THREADS" = 1
echo 'name = "written"' > mine.py
```
<!-- not run: it would end the test -->
```sh
rm mine.py; exit 1
```
```python
import os, pathlib, dae_ssl, mine
assert pathlib.Path(dae_ssl.__file__).is_relative_to(os.environ["REPOSITORY"])
pathlib.Path(mine.name).touch()
```
```text
exit 1
```
```sh
test -e written && dae-ssl --help | grep explain && python -c 'import dae_ssl'
```
"""), folder)  # fmt: skip
    assert {path.name for path in folder.iterdir()} >= {"mine.py", "written"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Text.\n\n```sh\ntrue\necho said; ls nowhere\necho no\n```",
         ["p.md:4: exit 2\n", "said\n", "failed in line 5: ls nowhere"]),
        ("```sh\nfalse | true\n```", ["p.md:2: exit 1", "failed in line 2"]),
        ("```sh\necho $unset_here\n```", ["p.md:2: exit 1", "unset_here"]),
        ("Text.\n\n```python\nprint('said')\n1 / 0\n```", ["p.md:4: exit 1\n", "said\n", "line 5,", "ZeroDivision"]),
    ],
)  # fmt: skip
def test_planted_block_that_fails_is_told_with_page_line_command_and_output(
    text: str, told: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    with pytest.raises(AssertionError) as failed:
        run(of_page(text), folder)
    assert [part for part in told if part not in str(failed.value)] == [], str(failed.value)
    assert "echo no\nno" not in str(failed.value)
