"""Join the bounds of all models of one experiment, and show them beside print."""

import pandas as pd

from blindspots.artifacts import read_record, write_sidecar, write_text
from blindspots.experiments.frames.fields import FIELDS
from blindspots.experiments.frames.tables import frame_tables
from blindspots.steps.job import run
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page


def main(job, files):
    rows = []
    pairs = zip(files.parts, job.upstream("parts"), job.spec["about"], strict=True)
    for path, digest, about in pairs:
        rows += [about | row for row in read_record(path, digest)["rows"]]
    table = pd.DataFrame(rows, columns=["model", "seed", *FIELDS])
    sections = frame_tables(table, pd.read_csv(files.printed))
    write_text(files.csv, table.to_csv(index=False, float_format="%.6g"))
    write_text(files.md, to_markdown(sections))
    write_text(files.html, page(sections))
    write_sidecar([files.csv, files.md, files.html], job.provenance())


if __name__ == "__main__":
    run(main, reads="parts* printed", writes="csv md html provenance")
