"""Checkpoints in a hidden file beside the output, from which a killed job goes on."""

import hashlib
import io
import logging
import os
import pickle
import time
from pathlib import Path

import torch

from blindspots.artifacts import atomic_path
from blindspots.errors import UserError

LOG = logging.getLogger(__name__)
SECONDS = 60  # between two checkpoints; BLINDSPOTS_CHECKPOINT_SECONDS overrides it
COST = 50  # and at least so many times as long as the last one took to write


class FileCheckpoint:
    """The state of one job, as `blindspots.checkpoint.NoCheckpoint` describes it.

    The file begins with the digest of the rest, which is read as tensors and plain values only. A
    file that is damaged, or of another job, device or number of threads, counts for nothing.

    Parameters
    ----------
    job : blindspots.steps.job.Job
    output : path-like
        The output of the job.
    device : torch.device
    """

    def __init__(self, job, output, device):
        output = Path(output)
        self.path = output.with_name(f".{output.name}.checkpoint")
        self.identity = [job.digest, job.threads, device.type]
        self.interval = _seconds()
        self.next = time.monotonic() + self.interval
        self.stages = self._read()

    def load(self, stage):
        """Return the state last saved under the name of a stage, or None."""
        return self.stages.get(stage)

    def save(self, stage, state, force=False):
        """Save what ``state()`` returns, if it is time."""
        begin = time.monotonic()
        if begin < self.next and not force:
            return
        self.stages[stage] = state()
        payload = io.BytesIO()
        torch.save({"identity": self.identity, "stages": self.stages}, payload)
        with atomic_path(self.path) as temporary, open(temporary, "wb") as stream:
            stream.write(hashlib.sha256(payload.getbuffer()).digest())
            stream.write(payload.getbuffer())
        now = time.monotonic()
        self.next = now + max(self.interval, COST * (now - begin))

    def remove(self):
        """Remove the file: the output is there."""
        self.path.unlink(missing_ok=True)

    def _read(self):
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        payload = memoryview(content)[32:]
        if hashlib.sha256(payload).digest() != content[:32]:
            LOG.warning("%s is damaged: starting from the beginning", self.path)
            return {}
        try:
            found = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            found = {}
        if not isinstance(found, dict) or found.get("identity") != self.identity:
            LOG.warning("%s is of another job: starting from the beginning", self.path)
            return {}
        LOG.info("going on from %s", self.path)
        return found["stages"]


def _seconds():
    name = "BLINDSPOTS_CHECKPOINT_SECONDS"
    text = os.environ.get(name) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not seconds >= 0:  # true of NaN, too
        raise UserError(f"{name} must be a number of seconds, not {text!r}")
    return seconds
