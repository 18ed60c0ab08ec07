"""Work on a GPU, captured once as a CUDA graph and replayed: thousands of small launches become one."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Work = Callable[[], None]
Record = Callable[[Work], Work]
"""Takes work without doing it, and returns what does it."""


def record(work: Work) -> Work:
    """Capture the launches of `work`, which are not run, and return what runs them all again on the same memory."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on allocating; the default mode would let them spoil the capture.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def repeated(
    work: Work, state: Callable[[], Sequence[Tensor]], device: torch.device, tell: Callable[[str], None]
) -> Work:
    """Return what does `work` as fast as its device can: as it is on a CPU, `Replayed` on CUDA."""
    return Replayed(work, state, tell, record) if device.type == "cuda" else work


class Replayed:
    """Does `work` each time it is called; from the third call on as a graph that the second call captured.

    The first call is plain: it makes what `work` makes only once, and loads libraries, which a capture must not. The
    second captures, does the work plainly, goes back and replays: the graph is kept only if all of the state comes out
    the same, bit for bit. Where it does not, or capturing raises, `tell` takes the reason, and every call is plain.
    The state is always what as many plain calls leave.
    """

    def __init__(
        self, work: Work, state: Callable[[], Sequence[Tensor]], tell: Callable[[str], None], record: Record
    ) -> None:
        """Hold work that reads and changes memory of the device only, at the same addresses each time.

        `state` returns every tensor that one call leaves to the next, or to the caller; it is asked after the first.
        """
        self._work, self._state, self._tell, self._record = work, state, tell, record
        self._run, self._calls = work, 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls != 2:
            self._run()
            return
        state = self._state()
        before = _copies(state)
        try:
            replay = self._record(self._work)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._tell(f"capturing a CUDA graph failed, running without: {reason}")
            _restore(state, before)
            self._work()
            return
        self._work()
        plain = _copies(state)
        _restore(state, before)
        replay()
        if _same_bits(state, plain):
            self._run = replay
        else:
            _restore(state, plain)
            self._tell("a captured CUDA graph gives other bits than the work that it captured, running without")


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _restore(tensors: Iterable[Tensor], copies: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)


def _same_bits(ones: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    """Tell whether tensors are the same in every bit, so that not-a-number equals itself."""
    pairs = zip(ones, others, strict=True)
    return all(torch.equal(*(part.detach().reshape(-1).view(torch.uint8) for part in pair)) for pair in pairs)
