"""Join all rows into the tidy transfer table."""

import csv
import io
import json

from blindspots.artifacts import write_sidecar, write_text
from blindspots.errors import UserError
from blindspots.evaluation.fields import FIELDS
from blindspots.steps.job import run


def main(job, options):
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    for path, expected in zip(options.rows, job.upstream("rows"), strict=True):
        try:
            with open(path, encoding="utf-8") as stream:
                row = json.load(stream)
            made_by, cells = row["job"], row["rows"]
        except (ValueError, KeyError):
            raise UserError(f"{path} is damaged; delete it and run again") from None
        if not made_by.startswith(expected):
            raise UserError(f"{path} was made by another configuration; delete it and run again")
        writer.writerows(cells)
    write_text(options.output, text.getvalue())
    write_sidecar([options.output], job.provenance())


if __name__ == "__main__":
    run(main, {"rows*": "rows, in the order of the configuration", "output": "CSV to write"})
