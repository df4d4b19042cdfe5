"""Join what the layers of all networks of one experiment do, and show it."""

import math

import pandas as pd

from blindspots.artifacts import read_record, write_sidecar, write_text
from blindspots.experiments.amplification.fields import FIELDS
from blindspots.experiments.amplification.tables import amplification_tables
from blindspots.steps.job import run
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page


def main(job, files):
    rows = []
    for path, digest in zip(files.parts, job.upstream("parts"), strict=True):
        rows += [
            {key: math.nan if value is None else value for key, value in row.items()}
            for row in read_record(path, digest)["rows"]
        ]
    table = pd.DataFrame(rows, columns=FIELDS)
    sections = amplification_tables(table, job.spec)
    write_text(files.csv, table.to_csv(index=False, float_format="%.6g"))
    write_text(files.md, to_markdown(sections))
    write_text(files.html, page(sections))
    write_sidecar([files.csv, files.md, files.html], job.provenance())


if __name__ == "__main__":
    run(main, reads="parts*", writes="csv md html provenance")
