"""Join the tests of all models and seeds of one experiment, and show them."""

import pandas as pd

from blindspots.artifacts import read_tensors
from blindspots.experiments.units.fields import FIELDS
from blindspots.experiments.units.tables import unit_tables
from blindspots.steps.job import run
from blindspots.steps.tabulating import save_table


def main(job, files):
    rows = []
    pairs = zip(files.parts, job.upstream("parts"), job.spec["about"], strict=True)
    for path, digest, about in pairs:
        _, provenance = read_tensors(path, digest)
        rows += [about | row for row in provenance["rows"]]
    table = pd.DataFrame(rows, columns=FIELDS)
    sections = unit_tables(table)
    save_table(table, sections, files, job)


if __name__ == "__main__":
    run(main, reads="parts*", writes="csv md html provenance")
