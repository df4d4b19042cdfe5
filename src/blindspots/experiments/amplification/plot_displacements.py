"""Plot how far each perturbation moves the layers by depth, for every network of one experiment."""

from blindspots.experiments.amplification.figures import DISPLACEMENT, depth_figure
from blindspots.experiments.amplification.read_table import read_table
from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure, setting
from blindspots.summary.style import house_style


def main(job, files):
    table = read_table(files.table, job.upstream("table"))
    with house_style():
        figure = depth_figure(table, job.spec["labels"], setting(job.spec), DISPLACEMENT)
        save_figure(figure, (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="table md html provenance", writes="figure pdf provenance")
