"""The tidy transfer table and the answers behind it, read back."""

from blindspots.artifacts import check_sidecar, read_tensors

NAMES = dict.fromkeys(("source", "victim", "attack", "variant"), str)


def read_cells(path, job_digest):
    """Read the tidy transfer table, checked; names stay text, even a model called NA."""
    import pandas as pd

    check_sidecar(path, job_digest)
    return pd.read_csv(path, dtype=NAMES, keep_default_na=False, na_values=[""])


def read_answers(path, job_digest, cells):
    """Read the answers to single images that the cells of the table count, checked."""
    from blindspots.experiments.transfer.answers import Answers

    tensors, _ = read_tensors(path, job_digest)
    return Answers(cells, tensors)
