"""Which of several GPUs a job on this machine takes: the one that the fewest have."""

import fcntl
import itertools
import logging
import os
import tempfile
import time
from pathlib import Path

LOG = logging.getLogger(__name__)
SECONDS_BETWEEN_TRIES = 1.0
SHARES = 4  # jobs that share a GPU: one alone leaves it idle most of the time


def visible_gpus(count):
    """Return a name for each GPU that this process sees.

    Parameters
    ----------
    count : int
        How many it sees.

    Returns
    -------
    list of str
        The entries of CUDA_VISIBLE_DEVICES, which tell GPUs apart that processes with different
        settings see; without it the positions.
    """
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named if len(named) == count else [str(position) for position in range(count)]


def take_gpu(names, folder=None):
    """Take a share of a GPU, one of those that the fewest jobs of this user have.

    If all shares are taken, wait until one is free. It is taken by a lock on a file, which the
    system releases when this process ends, however it ends.

    Parameters
    ----------
    names : list of str
    folder : path-like, optional
        Where the lock files lie; the folder for temporary files of this machine.

    Returns
    -------
    int
        Position in ``names``.
    """
    folder = Path(folder or tempfile.gettempdir())
    told = False
    while True:
        for share, (position, name) in itertools.product(range(SHARES), enumerate(names)):
            file = f"blindspots-{os.getuid()}-gpu-{name.replace('/', '-')}-{share}.lock"
            path = folder / file
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # open as long as the process
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            return position
        if not told:
            LOG.info("all %d GPUs are taken by other jobs: waiting for one", len(names))
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)
