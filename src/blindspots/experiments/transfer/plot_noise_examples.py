"""Show images with Gaussian noise beside their originals."""

import numpy as np
import torch

from blindspots.evaluation.distortion import add_gaussian_noise
from blindspots.experiments.transfer.grids import Pair, chosen, example_grid, page_of
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style


def main(job, files):
    spec = job.spec
    images, labels, indices, facts = load_images(
        files.data, job.upstream("data"), spec["images"], torch.device("cpu")
    )
    page = page_of(facts, answers=False)
    rows = chosen(page, labels.numpy(), facts["classes"])
    shown = np.concatenate(rows)
    # The very images that were evaluated: the draw belongs to base set, seed and image.
    noisy = add_gaussian_noise(
        images[shown], indices[shown], spec["noise"], spec["images"]["of"], spec["seed"]
    )
    pairs = map(Pair, images[shown].numpy(), noisy.numpy(), labels[shown].tolist())
    grid = [[next(pairs) for _ in row] for row in rows]
    title = f"Gaussian noise, stddev {spec['noise']:g}"
    with house_style():
        save_figure(example_grid(page, grid, title), (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="data", writes="figure pdf provenance")
