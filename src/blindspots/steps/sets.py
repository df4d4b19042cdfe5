"""Adversarial sets as artifacts: written whole, or gathered from the parts of several jobs."""

import logging

import numpy as np

from blindspots.artifacts import canonical_json, job_digest, read_tensors, write_tensors
from blindspots.parts import part_spec

LOG = logging.getLogger(__name__)


def write_set(job, path, arrays, *, left_out, device, threads, chunk):
    """Write an adversarial set, or a part of one.

    Parameters
    ----------
    job : blindspots.steps.job.Job
    path : path-like
    arrays : dict of str to ndarray
    left_out : int
        Images of the pool that the model has misclassified already.
    device : str
        Type of the device that the images were computed on.
    threads : int
        Threads that they were computed with.
    chunk : int
        How many were attacked together at the most.
    """
    success = arrays["success"]
    failed = int((~success).sum())
    LOG.info("%d attacked, %d failed", len(success), failed)
    if success.any():
        LOG.info("mean RMS %.5f", np.nanmean(arrays["rms"]))
    provenance = job.provenance(left_out=left_out, failed=failed, device=device)
    write_tensors(path, arrays, {**provenance, "threads": threads, "chunk": chunk})


def gather(job, paths):
    """Join the parts of a set, and return the arguments of `write_set` from the arrays on.

    Raises
    ------
    UserError
        If a part is missing, damaged, or was made by another job.
    """
    found = []
    for number, path in enumerate(paths):
        spec = part_spec(job.spec, number, len(paths))
        found.append(read_tensors(path, job_digest(canonical_json(spec), job.code)))
    parts = [arrays for arrays, _ in found if len(arrays["success"])]
    abouts = [about for _, about in found]
    return {
        "arrays": {name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        "left_out": abouts[0]["left_out"],
        "device": abouts[0]["device"],
        "threads": min(about["threads"] for about in abouts),
        "chunk": abouts[0]["chunk"],
    }
