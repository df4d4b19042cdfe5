"""What the steps that plot share: how they describe a figure and save it."""

import io
import logging

from blindspots.artifacts import write_bytes, write_sidecar

WITHOUT_DATE = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}

# Which tells of every table of every font that goes into a PDF.
logging.getLogger("fontTools").setLevel(logging.WARNING)


def setting(spec):
    """Return in a few words what an experiment attacks: a figure's title."""
    targets = spec["targets"].replace("_", "-")
    if targets != "untargeted":
        targets += " targets"
    count = len(spec["seeds"])
    seeds = f"{count} seeds" if count > 1 else f"seed {spec['seeds'][0]}"
    return f"{spec['dataset']}, images of {spec['pool']}, {targets}, {seeds}"


def save_figure(figure, paths, job):
    """Write a figure in several formats, and its provenance; it gives the same bytes every time.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    paths : sequence of path-like
        Each ends in ``.svg``, ``.png`` or ``.pdf``.
    job : blindspots.steps.job.Job
    """
    for path in paths:
        kind = str(path).rpartition(".")[2]
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=200, metadata=WITHOUT_DATE[kind])
        write_bytes(path, content.getvalue())
    write_sidecar(paths, job.provenance())
