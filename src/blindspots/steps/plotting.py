"""What the steps that plot share: how they describe a figure and save it."""

import io

from blindspots.artifacts import write_bytes, write_sidecar

WITHOUT_DATE = {"svg": {"Date": None}, "png": {"Software": None}}


def setting(spec):
    """Return in a few words what an experiment attacks: a figure's title."""
    targets = spec["targets"].replace("_", "-")
    if targets != "untargeted":
        targets += " targets"
    count = len(spec["seeds"])
    seeds = f"{count} seeds" if count > 1 else f"seed {spec['seeds'][0]}"
    return f"{spec['dataset']}, images of {spec['pool']}, {targets}, {seeds}"


def save_figure(figure, path, job):
    """Write a figure and its provenance; the same figure gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        Ends in ``.svg`` or ``.png``.
    job : blindspots.steps.job.Job
    """
    kind = str(path).rpartition(".")[2]
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=200, metadata=WITHOUT_DATE[kind])
    write_bytes(path, content.getvalue())
    write_sidecar([path], job.provenance())
