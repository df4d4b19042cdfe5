"""Show adversarial images of one model beside their originals."""

import numpy as np
import torch

from blindspots.artifacts import read_tensors
from blindspots.experiments.transfer.figures import example_grid, first_of_each_class
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style

PAIRS = 4


def main(job, files):
    spec = job.spec
    found, _ = read_tensors(files.set, job.upstream("set"))
    images, _, _, facts = load_images(
        files.data, job.upstream("data"), {"of": spec["base"]}, torch.device("cpu")
    )
    originals = images.numpy()[found["indices"], 0]
    chosen = first_of_each_class(found["labels"], facts["classes"], PAIRS, found["success"])
    rows = {
        str(label): [
            (
                originals[i],
                found["images"][i, 0],
                f"→{found['targets'][i]}, RMS {found['rms'][i]:.3f}",
            )
            for i in positions
        ]
        for label, positions in enumerate(chosen)
    }
    rms = found["rms"][np.concatenate(chosen)]
    size = f"those shown: mean RMS {rms.mean():.3f}" if len(rms) else "no attack succeeded"
    with house_style():
        figure = example_grid(rows, f"Adversarial examples for {spec['label']}, {size}")
        save_figure(figure, (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="data set", writes="figure pdf provenance")
