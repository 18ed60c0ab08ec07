"""Start a job by its name: `python -m jobs run_cell method=dae` is `python -m jobs.run_cell method=dae`.

The images' entry point, so that `docker run IMAGE NAME ...` names a job.
"""

import ast
import difflib
import os
import sys
from pathlib import Path


def names() -> dict[str, str]:
    """Return what each command is for, in a line, by its name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        source = path.read_text()
        if '\nif __name__ == "__main__":' in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def main(arguments: list[str]) -> None:
    """Become the job, or list what there is; exit 2 for a name that is none."""
    known = names()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("A job's name, and what it is to do; NAME --help tells more of it.\n")
        for name, purpose in known.items():
            print(f"  {name:14}{purpose}")
        return
    name, *further = arguments
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        print(f"error: unknown job {name}: {hint}choose {', '.join(known)}", file=sys.stderr)
        sys.exit(2)
    # The process becomes the job, so that signals reach it and its exit code is the container's.
    os.execv(sys.executable, [sys.executable, "-m", f"jobs.{name}", *further])


if __name__ == "__main__":
    main(sys.argv[1:])
