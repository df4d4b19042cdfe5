"""Plot how good the detectors of one experiment are, and how little deceives them."""

import pandas as pd

from blindspots.artifacts import check_sidecar
from blindspots.experiments.quocnet.figures import detector_figure
from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style


def main(job, files):
    check_sidecar(files.table, job.upstream("table"))
    table = pd.read_csv(files.table, keep_default_na=False, na_values=[""])
    with house_style():
        save_figure(detector_figure(table, job.spec["title"]), (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="table md html provenance", writes="figure pdf provenance")
