"""Show how many adversarial images of one experiment survive being stored, and by what margins."""

from blindspots.artifacts import read_record
from blindspots.experiments.transfer.storage_tables import (
    made_table,
    numbers,
    own_cells,
    sections,
)
from blindspots.experiments.transfer.transfer_table import read_cells
from blindspots.steps.job import run
from blindspots.steps.tabulating import save_table


def main(job, files):
    spec = job.spec
    cells = own_cells(read_cells(files.transfer, job.upstream("transfer")), spec)
    runs = [(source, seed) for source in spec["sources"] for seed in spec["seeds"]]
    records = [
        {"source": source, "seed": seed, "measures": read_record(path, digest)["measures"]}
        for (source, seed), path, digest in zip(
            runs, files.records, job.upstream("records"), strict=True
        )
    ]
    table = made_table(cells, spec, records)
    shown = sections(table, cells, spec, records)
    save_table(numbers(table, spec["labels"]), shown, files, job)


if __name__ == "__main__":
    run(
        main,
        reads="transfer answers provenance records*",
        writes="csv md html provenance",
    )
