"""Join all rows into the tidy transfer table."""

import csv
import io

from blindspots.artifacts import read_record, write_sidecar, write_text
from blindspots.evaluation.fields import FIELDS
from blindspots.steps.job import run


def main(job, options):
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    for path, expected in zip(options.rows, job.upstream("rows"), strict=True):
        writer.writerows(read_record(path, expected)["rows"])
    write_text(options.output, text.getvalue())
    write_sidecar([options.output], job.provenance())


if __name__ == "__main__":
    run(main, {"rows*": "rows, in the order of the configuration", "output": "CSV to write"})
