"""Work on a GPU is captured once as a CUDA graph and replayed: one launch takes the place of thousands."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

Work = Callable[[], object]
Record = Callable[[Work], Work]
"""Captures work without doing it, and returns a function that does it."""
Tell = Callable[[str | None], None]
"""Receives None once a graph is in use, or the reason why none can be used."""


def record(work: Work) -> Work:
    """Capture the launches of `work` without running them; return a function that replays them on the same memory.

    They are captured on the current stream if `own_stream` has set one, since autograd remembers the stream of earlier
    calls; otherwise on a stream that PyTorch chooses.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    usual = stream == torch.cuda.default_stream()
    # Other threads may go on allocating; in the default mode that would spoil the capture.
    with torch.cuda.graph(graph, stream=None if usual else stream, capture_error_mode="thread_local"):
        work()
    return graph.replay


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Run the block on a stream of its own on a GPU, since nothing can be captured on the default stream."""
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
    """Return the one stream that this process uses: libraries keep memory for every stream that they have seen."""
    return torch.cuda.Stream(device)


def capturable(optimizer: torch.optim.Optimizer) -> None:
    """Mark a fused optimizer as capturable while a graph is being captured, and only then.

    The mark changes no number: without it Adam refuses to be captured, and with it Adam warns outside a capture.
    """
    for group in optimizer.param_groups:
        group["capturable"] = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def repeated(
    work: Work, state: Callable[[], Sequence[Tensor]], device: torch.device, tell: Tell, *, plain_calls: int = 1
) -> Work:
    """Return `work` itself for a CPU, and `Replayed` around it for CUDA."""
    return Replayed(work, state, tell, record, plain_calls=plain_calls) if device.type == "cuda" else work


class Replayed:
    """Does `work` at each call: the first calls run it directly, later ones replay a graph that was captured once.

    The direct calls allocate and load what `work` sets up only once, which must not happen during a capture. The next
    call captures a graph, does the work directly, restores the state and replays the graph, which is kept only if the
    whole state comes out the same, bit for bit. Otherwise, or if capturing raises, `tell` receives the reason and
    every call runs directly. In every case the state is that of as many direct calls.
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
        """Hold work that reads and changes only memory of the device, at the same addresses each time.

        `state` returns every tensor that a call passes on to the next call or to the caller. It is called after the
        direct calls; `plain_calls`, their number, is at least 1.
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
            self._tell(f"capturing a CUDA graph failed, so this runs without one: {reason}")
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
            self._tell("the captured CUDA graph computes other bits than the work itself, so this runs without one")


def _copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _restore(tensors: Iterable[Tensor], copies: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)


def _same_bits(ones: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    """Return whether tensors are the same in every bit, so that not-a-number equals itself."""
    pairs = zip(ones, others, strict=True)
    return all(torch.equal(*(part.detach().reshape(-1).view(torch.uint8) for part in pair)) for pair in pairs)
