"""The tidy transfer table, read back."""

from blindspots.artifacts import check_sidecar

NAMES = dict.fromkeys(("source", "victim", "attack", "variant"), str)


def read_cells(path, job_digest):
    """Read the tidy transfer table, checked; names stay text, even a model called NA."""
    import pandas as pd

    check_sidecar(path, job_digest)
    return pd.read_csv(path, dtype=NAMES, keep_default_na=False, na_values=[""])
