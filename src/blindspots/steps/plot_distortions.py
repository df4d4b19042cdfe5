"""Plot how the RMS distortions of the adversarial images of one experiment are distributed."""

import numpy as np

from blindspots.artifacts import read_tensors
from blindspots.steps.job import run
from blindspots.steps.plotting import save_figure, setting
from blindspots.summary.figures import distortion_distributions
from blindspots.summary.style import house_style


def main(job, options):
    spec = job.spec
    labels = [spec["labels"][source] for source in spec["sources"] for _ in spec["seeds"]]
    found = {}
    for label, path, digest in zip(labels, options.sets, job.upstream("sets"), strict=True):
        tensors, _ = read_tensors(path, digest)
        found.setdefault(label, []).append(tensors["rms"])
    distortions = {label: np.concatenate(parts) for label, parts in found.items()}
    with house_style():
        figure = distortion_distributions(distortions, setting(spec))
        save_figure(figure, (options.output, options.pdf), job)


if __name__ == "__main__":
    run(
        main,
        {
            "sets*": "adversarial sets, in the order of the configuration: sources, then seeds",
            "output": "SVG to write",
            "pdf": "PDF to write",
        },
    )
