"""Show images, their magnified distortions and what became of them: figure 5."""

import math

import numpy as np
import torch

from blindspots.artifacts import read_tensors
from blindspots.experiments.minimum.figures import Example, minimum_figure, visible_factor
from blindspots.experiments.minimum.printed import printed_distortion
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.summary.numbers import distortion
from blindspots.summary.style import house_style


def main(job, files):
    spec = job.spec
    found, _ = read_tensors(files.set, job.upstream("set"))
    images, _, _, facts = load_images(
        files.data, job.upstream("data"), {"of": spec["base"]}, torch.device("cpu")
    )
    places = np.flatnonzero(found["success"])[: spec["rows"]]
    names = facts.get("names") or list(map(str, range(facts["classes"])))
    examples = [
        Example(
            images[found["indices"][place]].numpy(),
            found["images"][place],
            names[found["labels"][place]],
            names[found["targets"][place]],
            float(found["rms"][place]),
        )
        for place in places
    ]
    aims = {"untargeted": "any wrong answer"}.get(spec["targets"], f"{spec['targets']} targets")
    said, factor = "no attack succeeded", math.nan
    if examples:
        mean = float(np.nanmean(found["rms"]))
        factor = visible_factor(mean, printed_distortion(files.printed, spec["printed"][1]))
        success = found["success"]
        said = f"mean RMS {distortion(mean, 4)} over {success.sum()} of {len(success)} images"
    title = f"{spec['label']}, {aims.replace('_', '-')}: {said}"
    with house_style():
        save_figure(minimum_figure(examples, factor, title), (files.figure, files.pdf), job)


if __name__ == "__main__":
    run(main, reads="data set printed", writes="figure pdf provenance")
