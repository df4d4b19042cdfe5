"""Show how small the distortions of some adversarial sets are, and which of them survive 8 bits."""

import pandas as pd

from blindspots.artifacts import read_record, read_tensors
from blindspots.experiments.minimum.fields import FIELDS
from blindspots.experiments.minimum.printed import printed_distortion
from blindspots.experiments.minimum.rows import minimum_row, over_seeds
from blindspots.experiments.minimum.tables import minimum_tables
from blindspots.steps.job import run
from blindspots.steps.tabulating import save_table


def main(job, files):
    spec = job.spec
    made = list(zip(files.sets_and_rows, job.upstream("sets_and_rows"), strict=True))
    rows, sets = [], []
    for about, (path, digest), record in zip(spec["about"], made[::2], made[1::2], strict=True):
        found, provenance = read_tensors(path, digest)
        (counts,) = [
            row
            for row in read_record(*record)["rows"]
            if row["victim"] == row["source"]
            and row["victim_seed"] == row["seed"]
            and row["variant"] == spec["stored"]
        ]
        known = minimum_row(found, counts, about["targets"])
        rows.append({**about, "left_out": provenance["left_out"], **known})
        sets.append(found)
    sections = minimum_tables(
        over_seeds(rows, sets), spec, printed_distortion(files.printed, spec["printed"][1])
    )
    table = pd.DataFrame(rows, columns=FIELDS)
    save_table(table, sections, files, job)


if __name__ == "__main__":
    run(main, reads="sets_and_rows* printed", writes="csv md html provenance")
