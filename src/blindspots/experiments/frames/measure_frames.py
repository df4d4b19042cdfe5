"""Bound from both sides how much each layer of one model stretches its input."""

import torch

from blindspots.artifacts import write_record
from blindspots.device import configure_torch
from blindspots.experiments.frames.bounds import frame_bounds
from blindspots.steps.job import run
from blindspots.steps.weights import load_network


def main(job, files):
    # On a CPU in any case: singular values in double precision, and the same ones everywhere.
    configure_torch("cpu", job.threads)
    network, about = load_network(files.model, job.upstream("model"), torch.device("cpu"))
    rows = frame_bounds(network, tuple(about["network"]["shape"]))
    write_record(files.record, {**job.provenance(), "rows": [_finite(row) for row in rows]})


def _finite(row):
    """Return a row in which numbers that there are none of are None: JSON has no NaN."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}


if __name__ == "__main__":
    run(main, reads="model", writes="record")
