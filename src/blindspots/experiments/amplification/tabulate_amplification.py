"""Join what the layers of all networks of one experiment do, and show it."""

import math

import pandas as pd

from blindspots.artifacts import read_record
from blindspots.experiments.amplification.fields import FIELDS
from blindspots.experiments.amplification.tables import amplification_tables
from blindspots.steps.job import run
from blindspots.steps.tabulating import save_table


def main(job, files):
    rows = []
    for path, digest in zip(files.parts, job.upstream("parts"), strict=True):
        rows += [
            {key: math.nan if value is None else value for key, value in row.items()}
            for row in read_record(path, digest)["rows"]
        ]
    table = pd.DataFrame(rows, columns=FIELDS)
    sections = amplification_tables(table, job.spec)
    save_table(table, sections, files, job)


if __name__ == "__main__":
    run(main, reads="parts*", writes="csv md html provenance")
