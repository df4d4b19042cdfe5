"""Join what is known of the detectors of one experiment: accuracies, and what deceives them."""

from blindspots.artifacts import read_tensors, write_sidecar, write_text
from blindspots.experiments.quocnet.tables import detector_rows, detector_table
from blindspots.steps.job import run
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page


def main(job, files):
    spec, measured = job.spec, {}
    for path, digest, about in zip(files.parts, job.upstream("parts"), spec["about"], strict=True):
        measured.setdefault(about["model"], {})[about["seed"]] = read_tensors(path, digest)[0]
    table = detector_rows(measured, spec["models"], spec["data"], spec["directions"])
    sections = detector_table(table)
    write_text(files.csv, table.to_csv(index=False, float_format="%.6g"))
    write_text(files.md, to_markdown(sections))
    write_text(files.html, page(sections))
    write_sidecar([files.csv, files.md, files.html], job.provenance())


if __name__ == "__main__":
    run(main, reads="parts*", writes="csv md html provenance")
