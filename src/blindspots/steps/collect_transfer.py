"""Join all rows into the tidy transfer table, and the answers to single images behind it."""

import csv
import io

import numpy as np

from blindspots.artifacts import read_record, write_sidecar, write_tensors, write_text
from blindspots.evaluation.fields import FIELDS
from blindspots.steps.bits import text_to_bytes
from blindspots.steps.job import run


def main(job, options):
    text, answers = io.StringIO(), {}
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    for path, expected in zip(options.rows, job.upstream("rows"), strict=True):
        record = read_record(path, expected)
        writer.writerows(record["rows"])
        answers |= _tensors(record)
    write_text(options.csv, text.getvalue())
    write_tensors(options.output, answers, job.provenance())
    write_sidecar([options.csv, options.output], job.provenance())


def _tensors(record):
    """Return the answers of one row as arrays, as `blindspots.summary.answers.Answers` has them."""
    first, said = record["rows"][0], record["answers"]
    name = f"{first['source']}/{first['seed']}/{first['attack']}"
    tensors = {
        "indices": text_to_bytes(said["indices"]).view("<i4"),
        "right": np.stack([text_to_bytes(bits) for bits in said["right"]]),
        "fooled": np.stack([text_to_bytes(bits) for bits in said["fooled"]]),
    }
    if "rms" in said:
        tensors["rms"] = text_to_bytes(said["rms"]).view("<f4")
    return {f"{name}/{key}": array for key, array in tensors.items()}


if __name__ == "__main__":
    run(
        main,
        {
            "rows*": "rows, in the order of the configuration",
            "csv": "CSV to write",
            "output": "safetensors file to write, one bit for each image and cell",
        },
    )
