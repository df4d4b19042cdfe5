"""Plot the victim error of every pair of source and victim of one experiment."""

from blindspots.experiments.transfer.figures import transfer_heat_maps
from blindspots.experiments.transfer.transfer_table import read_answers, read_cells
from blindspots.experiments.transfer.victim_seeds import IN_WORDS
from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure, setting
from blindspots.summary.style import house_style


def main(job, files):
    cells = read_cells(files.transfer, job.upstream("transfer"))
    answers = read_answers(files.answers, job.upstream("transfer"), cells)
    title = ", ".join(filter(None, [setting(job.spec), IN_WORDS[job.spec["victim_seeds"]]]))
    with house_style():
        figure = transfer_heat_maps(cells, job.spec, title, answers)
        save_figure(figure, (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="transfer answers provenance", writes="figure pdf provenance")
