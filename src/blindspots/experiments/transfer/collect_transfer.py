"""Join all rows into the tidy transfer table, and the answers to single images behind it."""

import csv
import io

import numpy as np

from blindspots.artifacts import read_record, write_sidecar, write_tensors, write_text
from blindspots.experiments.transfer.bits import text_to_bytes
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.steps.job import run


def main(job, files):
    text, answers = io.StringIO(), {}
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    for path, expected in zip(files.rows, job.upstream("rows"), strict=True):
        record = read_record(path, expected)
        writer.writerows(record["rows"])
        answers |= _tensors(record)
    write_text(files.transfer, text.getvalue())
    write_tensors(files.answers, answers, job.provenance())
    write_sidecar([files.transfer, files.answers], job.provenance())


def _tensors(record):
    """Return the answers of one row as arrays, as `answers.Answers` has them."""
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
    run(main, reads="rows*", writes="transfer answers provenance")
