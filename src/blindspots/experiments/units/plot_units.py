"""Plot every direction of all families, and how far units lie from random bases in each layer."""

from blindspots.artifacts import read_tensors
from blindspots.experiments.units.figures import unit_figure
from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style


def main(job, files):
    networks = {}
    pairs = zip(files.parts, job.upstream("parts"), job.spec["about"], strict=True)
    for path, digest, about in pairs:
        arrays, provenance = read_tensors(path, digest)
        networks.setdefault(about["network"], []).append((provenance["rows"], arrays))
    with house_style():
        save_figure(unit_figure(networks, job.spec["title"]), (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="parts*", writes="figure pdf provenance")
