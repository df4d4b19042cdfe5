"""Join the bounds of all models of one experiment, and show them beside print."""

import pandas as pd

from blindspots.artifacts import read_record
from blindspots.experiments.frames.fields import FIELDS
from blindspots.experiments.frames.tables import frame_tables
from blindspots.steps.job import run
from blindspots.steps.tabulating import save_table


def main(job, files):
    rows = []
    pairs = zip(files.parts, job.upstream("parts"), job.spec["about"], strict=True)
    for path, digest, about in pairs:
        rows += [about | row for row in read_record(path, digest)["rows"]]
    table = pd.DataFrame(rows, columns=["model", "seed", *FIELDS])
    sections = frame_tables(table, pd.read_csv(files.printed))
    save_table(table, sections, files, job)


if __name__ == "__main__":
    run(main, reads="parts* printed", writes="csv md html provenance")
