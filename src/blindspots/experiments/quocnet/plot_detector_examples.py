"""Show images that deceive a detector beside their originals: figure 6 of Szegedy et al. 2013."""

import numpy as np
import torch

from blindspots.artifacts import read_tensors
from blindspots.experiments.quocnet.examples import EACH, Triple, example_figure
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style


def main(job, files):
    spec = job.spec
    found, _ = read_tensors(files.set, job.upstream("set"))
    whole = {"of": spec["base"]}
    images, *_ = load_images(files.data, job.upstream("data"), whole, torch.device("cpu"))
    columns = {}
    for label in (1, 0):  # as in print: first what is detected
        rows = np.flatnonzero((found["labels"] == label) & found["success"])[:EACH]
        originals = images[found["indices"][rows]].numpy()
        columns[spec["directions"][label]] = [
            Triple(*triple)
            for triple in zip(
                originals, found["images"][rows], found["rms"][rows].tolist(), strict=True
            )
        ]
    with house_style():
        figure = example_figure(columns, f"{spec['title']}: {spec['label']}")
        save_figure(figure, (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="data set", writes="figure pdf provenance")
