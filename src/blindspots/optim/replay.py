"""Computations that repeat with other numbers: recorded once on a GPU, and launched as one.

A small operation keeps a GPU busy for a few microseconds and its host for ten and more. A CUDA
graph launches hundreds of them at the price of one. On a CPU nothing is recorded.
"""

import gc
import logging
import warnings

import torch

LOG = logging.getLogger(__name__)
# What torch says of an operation that waits for a GPU, and of its looking out for them.
WAITED, PROTOTYPE = "called a synchronizing CUDA operation", "Synchronization debug mode"
FEWEST = 6  # repetitions from which a recording, which costs about as much as two, is worth it


def on_gpu(tensor):
    """Tell whether a tensor is on a GPU, which works on while its host goes ahead."""
    return tensor.is_cuda


def anywhere(mask):
    """Tell whether a mask holds anywhere; on a GPU it may, for asking would have the host wait.

    So what depends on it must change nothing where the mask does not hold.
    """
    return on_gpu(mask) or bool(mask.any())


def put_rows(kept, mask, rows):
    """Write rows (B, n) over others where a mask (B,) holds, whatever stands in the rest."""
    if on_gpu(mask):  # to count them would have the host wait
        torch.where(mask[:, None], rows, kept, out=kept)
    else:
        chosen = mask.nonzero()[:, 0]
        kept.index_copy_(0, chosen, rows.index_select(0, chosen))


class Replayed:
    """A function of tensors on a GPU that is recorded, and from then on replayed.

    The first call is an ordinary one, the second records. What cannot be recorded, as a function
    that looks at numbers on the host, is called as it is.

    Parameters
    ----------
    fun : callable
        Takes tensors, whose shapes never change, and returns a tuple of tensors. It reads the
        same memory each time beside them, and does on the host nothing that matters.
    """

    def __init__(self, fun):
        self.fun, self.graph, self.inputs, self.outputs = fun, None, None, None
        self.seen = self.recordable = False

    def __call__(self, *tensors):
        """Return what the function returns, in memory of its own."""
        if not on_gpu(tensors[0]):
            return self.fun(*tensors)
        if not self.seen:
            self.seen = True
            result, waited = watched(lambda: self.fun(*tensors))
            self.recordable = not waited
            return result
        if self.recordable and self.graph is None:
            self.recordable = False  # it is tried once
            gc.collect()  # graphs of earlier passes, which would be waited for
            self.inputs = [part.clone() for part in tensors]
            recorded = recording(lambda: self.fun(*self.inputs), tensors[0].device)
            if recorded is not None:
                self.graph, self.outputs = recorded
        if self.graph is None:
            return self.fun(*tensors)
        for held, given in zip(self.inputs, tensors, strict=True):
            held.copy_(given)
        self.graph.replay()
        return tuple(part.clone() for part in self.outputs)


def repeat(body, state, count):
    """Apply a function to its own result so many times.

    Parameters
    ----------
    body : callable
        ``body(*state)`` returns the next state, as many tensors of the same shapes. It may write
        into those that it is given. On a GPU it must depend on nothing but them and on memory that
        stays what it is, and do on the host nothing that matters.
    state : tuple of torch.Tensor
    count : int

    Returns
    -------
    tuple of torch.Tensor
    """
    if count < FEWEST or not on_gpu(state[0]):
        for _ in range(count):
            state = body(*state)
        return state
    state, waited = watched(lambda: body(*state))
    state = tuple(part.clone() for part in state)  # each in memory of its own

    def once():
        for held, new in zip(state, body(*state), strict=True):
            if held is not new:
                held.copy_(new)

    recorded = None if waited else recording(once, state[0].device)
    again = once if recorded is None else recorded[0].replay
    for _ in range(count - 1):
        again()
    return state


def watched(fun):
    """Call a function without arguments.

    Returns
    -------
    result
    waited : bool
        Whether the host has waited for the GPU: then it can't be recorded.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            result = fun()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    told = [(str(warning.message), warning) for warning in told]
    for text, warning in told:
        if WAITED not in text and PROTOTYPE not in text:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return result, any(WAITED in text for text, _ in told)


def recording(fun, device):
    """Record what a function without arguments has a GPU do; it is not done yet.

    Returns
    -------
    graph, result
        A `torch.cuda.CUDAGraph` and what the function has returned; or None, where it cannot be
        recorded.
    """
    try:
        return _recorded(fun, device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        LOG.info("not recorded: %s", str(error).partition("\n")[0])
        # What has failed has left the generator of random numbers open: the next success closes it.
        _recorded(lambda: torch.zeros(1, device=device), device)
        return None


def _recorded(fun, device):
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin()
            try:
                result = fun()
            finally:
                graph.capture_end()
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)
    return graph, result
