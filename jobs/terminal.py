"""What a person who watches is shown."""

import sys

from tqdm import tqdm


class Terminal:
    """A progress bar, and lines above it; silent on all ranks but the first."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._bar: tqdm | None = None
        self._what = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self, line: str) -> None:
        if not self._silent:
            tqdm.write(line)
            sys.stdout.flush()

    def progress(self, what: str, done: int, total: int) -> None:
        if self._silent:
            return
        if what != self._what or self._bar is None:
            self.__exit__()
            # On a terminal ten times a second, in a file one line a minute.
            seconds = 0.1 if sys.stderr.isatty() else 60
            self._what, self._bar = (
                what,
                tqdm(desc=what, total=total, initial=done - 1, mininterval=seconds, unit="step"),
            )
        self._bar.update(done - self._bar.n)
