"""Plot victim error against RMS distortion for every source of one experiment."""

from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure, setting
from blindspots.steps.transfer_table import read_answers, read_cells
from blindspots.summary.figures import error_curves
from blindspots.summary.style import house_style


def main(job, options):
    cells = read_cells(options.transfer, job.upstream("transfer"))
    answers = read_answers(options.answers, job.upstream("transfer"), cells)
    with house_style():
        figure = error_curves(cells, job.spec, setting(job.spec), answers)
        save_figure(figure, (options.output, options.pdf), job)


if __name__ == "__main__":
    run(
        main,
        {
            "transfer": "tidy transfer table",
            "answers": "answers to single images",
            "output": "SVG to write",
            "pdf": "PDF to write",
        },
    )
