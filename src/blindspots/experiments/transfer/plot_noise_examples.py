"""Show images with Gaussian noise beside their originals."""

import numpy as np
import torch

from blindspots.evaluation.distortion import add_gaussian_noise
from blindspots.experiments.transfer.figures import example_grid, first_of_each_class
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style

PAIRS = 4


def main(job, files):
    spec = job.spec
    images, labels, indices, facts = load_images(
        files.data, job.upstream("data"), spec["images"], torch.device("cpu")
    )
    chosen = first_of_each_class(labels.numpy(), facts["classes"], PAIRS)
    shown = np.concatenate(chosen)
    # The very images that were evaluated: the draw belongs to base set, seed and image.
    noisy = add_gaussian_noise(
        images[shown], indices[shown], spec["noise"], spec["images"]["of"], spec["seed"]
    )
    distorted = dict(zip(shown, noisy[:, 0], strict=True))
    rows = {
        str(label): [(images[i, 0], distorted[i], "") for i in positions]
        for label, positions in enumerate(chosen)
    }
    with house_style():
        figure = example_grid(rows, f"Gaussian noise, stddev {spec['noise']:g}")
        save_figure(figure, (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="data", writes="figure pdf provenance")
