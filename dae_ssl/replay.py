"""Work on a GPU, captured once as a CUDA graph and replayed: thousands of small launches become one."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

Work = Callable[[], object]
Record = Callable[[Work], Work]
"""Takes work without doing it, and returns what does it."""
Tell = Callable[[str | None], None]
"""Takes None once a graph is in use, or the reason why none is."""


def record(work: Work) -> Work:
    """Capture the launches of `work`, which are not run, and return what runs them all again on the same memory.

    They are captured on the current stream, where `own_stream` has set one, so that what autograd remembers of earlier
    calls is of the same stream; else on one of PyTorch's.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    usual = stream == torch.cuda.default_stream()
    # Other threads may go on allocating; the default mode would let them spoil the capture.
    with torch.cuda.graph(graph, stream=None if usual else stream, capture_error_mode="thread_local"):
        work()
    return graph.replay


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work on a stream other than the default one while the block runs, on a GPU: there nothing can be captured."""
    if device.type != "cuda":
        yield
        return
    outer, stream = torch.cuda.current_stream(device), _stream(device)
    stream.wait_stream(outer)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        outer.wait_stream(stream)


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the process's one stream of its own: libraries keep memory for every stream that they have seen."""
    return torch.cuda.Stream(device)


def capturable(optimizer: torch.optim.Optimizer) -> None:
    """Let a fused optimizer's step be captured where one is captured just now.

    It changes no number: Adam refuses to be captured without it, and warns where it is idle.
    """
    for group in optimizer.param_groups:
        group["capturable"] = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def repeated(
    work: Work, state: Callable[[], Sequence[Tensor]], device: torch.device, tell: Tell, *, plain_calls: int = 1
) -> Work:
    """Return what does `work` as fast as its device can: as it is on a CPU, `Replayed` on CUDA."""
    return Replayed(work, state, tell, record, plain_calls=plain_calls) if device.type == "cuda" else work


class Replayed:
    """Does `work` each time it is called: at first plainly, then as a graph that was captured once.

    The plain calls make what `work` makes only once, and load libraries, which a capture must not. The next one
    captures, does the work plainly, goes back and replays: the graph is kept only if all of the state comes out the
    same, bit for bit. Where it does not, or capturing raises, `tell` takes the reason, and every call is plain.
    The state is always what as many plain calls leave.
    """

    def __init__(
        self,
        work: Work,
        state: Callable[[], Sequence[Tensor]],
        tell: Tell,
        record: Record,
        *,
        plain_calls: int = 1,
    ) -> None:
        """Hold work that reads and changes memory of the device only, at the same addresses each time.

        `state` returns every tensor that one call leaves to the next, or to the caller; it is asked after the plain
        calls, of which there is at least one.
        """
        self._work, self._state, self._tell, self._record = work, state, tell, record
        self._run, self._plain_calls, self._calls = work, plain_calls, 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls != self._plain_calls + 1:
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
            self._tell(None)
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
