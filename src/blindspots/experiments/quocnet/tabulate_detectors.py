"""Join what is known of the detectors of one experiment: accuracies, and what deceives them."""

from blindspots.artifacts import read_tensors
from blindspots.experiments.quocnet.tables import detector_rows, detector_table
from blindspots.steps.job import run
from blindspots.steps.tabulating import save_table


def main(job, files):
    spec, measured = job.spec, {}
    for path, digest, about in zip(files.parts, job.upstream("parts"), spec["about"], strict=True):
        measured.setdefault(about["model"], {})[about["seed"]] = read_tensors(path, digest)[0]
    table = detector_rows(measured, spec["models"], spec["data"], spec["directions"])
    sections = detector_table(table)
    save_table(table, sections, files, job)


if __name__ == "__main__":
    run(main, reads="parts*", writes="csv md html provenance")
