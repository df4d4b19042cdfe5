"""The table of amplification, read back; shared by the steps that plot it."""

import pandas as pd

from blindspots.artifacts import check_sidecar


def read_table(path, job_digest):
    """Read and check the table that `tabulate_amplification` has written."""
    check_sidecar(path, job_digest)
    return pd.read_csv(path)
