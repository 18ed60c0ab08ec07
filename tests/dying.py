"""Programs that kill themselves at the n-th operation on a file that they make: what a crash at any moment leaves."""

PROGRAM = """
import os, signal, sys
from pathlib import Path
{prepared}
fatal, seen, ready = int(sys.argv[-1]), 0, False
def note(event, arguments):
    global seen
    if ready and (event in ("open", "shutil.rmtree") or event.startswith("os.")):
        seen += 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(note)
ready = True
result = {done}
ready = False
print(seen, result)
"""


def dying(prepared: str, done: str) -> str:
    """Return a program that prepares something and then does something, an expression, which its death may interrupt.

    Its last argument says at which operation it dies; one that lives prints how many there were, and what it returned.
    """
    return PROGRAM.format(prepared=prepared, done=done)
