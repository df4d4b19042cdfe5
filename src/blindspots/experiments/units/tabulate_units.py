"""Join the tests of all models and seeds of one experiment, and show them."""

import pandas as pd

from blindspots.artifacts import read_tensors, write_sidecar, write_text
from blindspots.experiments.units.fields import FIELDS
from blindspots.experiments.units.tables import unit_tables
from blindspots.steps.job import run
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page


def main(job, files):
    rows = []
    pairs = zip(files.parts, job.upstream("parts"), job.spec["about"], strict=True)
    for path, digest, about in pairs:
        _, provenance = read_tensors(path, digest)
        rows += [about | row for row in provenance["rows"]]
    table = pd.DataFrame(rows, columns=FIELDS)
    sections = unit_tables(table)
    write_text(files.csv, table.to_csv(index=False, float_format="%.6g"))
    write_text(files.md, to_markdown(sections))
    write_text(files.html, page(sections))
    write_sidecar([files.csv, files.md, files.html], job.provenance())


if __name__ == "__main__":
    run(main, reads="parts*", writes="csv md html provenance")
