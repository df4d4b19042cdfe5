"""The global random states that other people's code draws from: seeded, kept and restored as one.

Python's, numpy's and torch's.
"""

import random
from contextlib import contextmanager

import numpy as np
import torch

from blindspots.randomness import seed_python_and_numpy


@contextmanager
def seeded(seed, device=None):
    """Seed all global generators for a block, and leave them behind as they were before it.

    Parameters
    ----------
    seed : int
        0 to 2**63 - 1.
    device : torch.device, optional
        A GPU in use, whose generator is seeded, too; else torch's current one, if it uses any.
    """
    gpus = _gpus(device)
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(gpus):
        seed_python_and_numpy(seed)
        torch.random.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


def random_state(device):
    """Return the state of all global generators as plain values and tensors, for a checkpoint."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "gpus": [torch.cuda.get_rng_state(gpu) for gpu in _gpus(device)],
    }


def restore_random_state(state, device):
    """Go on from a state that `random_state` has returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    for gpu, saved in zip(_gpus(device), state["gpus"], strict=True):
        torch.cuda.set_rng_state(saved, gpu)


def _gpus(device):
    if device is None and torch.cuda.is_initialized():
        return [torch.device("cuda", torch.cuda.current_device())]
    return [] if device is None or device.type != "cuda" else [device]
