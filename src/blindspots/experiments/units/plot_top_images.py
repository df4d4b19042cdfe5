"""Show the images that some units and some random directions respond to most."""

import torch

from blindspots.artifacts import read_tensors
from blindspots.experiments.units.fields import STATISTICS
from blindspots.experiments.units.grids import grid_figure
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style

NATURAL, RANDOM = "natural", "random"
BLOCKS = (  # family, and what its natural and its random directions are called
    ("units", "Units of {}", "Random directions of {}"),
    ("whitened", "Whitened units", "Whitened, random"),
    ("untrained", "Untrained units", "Untrained, random"),
    ("pixels", "Single pixels", "Pixels, random"),
)


def main(job, files):
    found, provenance = read_tensors(files.units, job.upstream("units"))
    images, _, _, _ = load_images(
        files.data, job.upstream("data"), job.spec["images"], torch.device("cpu")
    )
    rows = provenance["rows"]
    last = [row["layer"] for row in rows if row["family"] == "units"][-1]
    blocks = []
    for family, *names in BLOCKS:
        layer = "input" if family == "pixels" else last
        if f"{family}/{layer}/{NATURAL}" in found:
            said = (name.format(layer) for name in names)
            blocks.append(_block(found, f"{family}/{layer}", *said))
    title = f"{job.spec['label']}: images with the largest responses"
    with house_style():
        save_figure(grid_figure(blocks, images.numpy(), title), (files.figure, files.pdf), job)


def _block(found, space, natural, random):
    """Return what is shown of one family, as `grid_figure` takes it."""
    block = []
    for kind, name in ((NATURAL, natural), (RANDOM, random)):
        means = dict(zip(STATISTICS, found[f"{space}/{kind}"].mean(1), strict=True))
        said = f"{name}: mean purity {means['purity']:.2f}, distance {means['ref']:.2f}"
        block += [said, found[f"{space}/{kind}/top"]]
    return block


if __name__ == "__main__":
    run(main, reads="data units", writes="figure pdf provenance")
