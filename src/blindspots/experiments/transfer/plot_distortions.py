"""Plot how the RMS distortions of the adversarial images of one experiment are distributed."""

from blindspots.artifacts import read_tensors
from blindspots.experiments.transfer.figures import distortion_distributions
from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure, setting
from blindspots.summary.style import house_style


def main(job, files):
    spec = job.spec
    runs = [(spec["labels"][source], seed) for source in spec["sources"] for seed in spec["seeds"]]
    distortions = {}
    for (label, seed), path, digest in zip(runs, files.sets, job.upstream("sets"), strict=True):
        tensors, _ = read_tensors(path, digest)
        distortions.setdefault(label, []).append((seed, tensors["indices"], tensors["rms"]))
    with house_style():
        figure = distortion_distributions(distortions, setting(spec))
        save_figure(figure, (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="sets*", writes="figure pdf provenance")
