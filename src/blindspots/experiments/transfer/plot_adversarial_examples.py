"""Show adversarial images of one model beside their originals, as found or as PNGs hold them."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from blindspots.artifacts import read_tensors
from blindspots.evaluation.distortion import rms_distortion
from blindspots.evaluation.storage import png, refuse_truncated, stretched
from blindspots.evaluation.variants import stored
from blindspots.experiments.transfer.grids import Pair, chosen, example_grid, page_of
from blindspots.models.inference import answers_of, logits_of
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.plotting import save_figure
from blindspots.steps.weights import load_network
from blindspots.summary.numbers import distortion
from blindspots.summary.style import house_style


@dataclass
class Shown:
    """Adversarial images that are shown: pixels (B, C, H, W), and for each what is said of it.

    Attributes
    ----------
    images, rms : ndarray of float32
    answers : ndarray of int64, shape (B,)
        What the source says they are.
    lost : ndarray of bool, shape (B,)
        Whether the source is no longer fooled: gives another label than the target or, if the
        attack had none, the true one.
    how : str
        What was done to them, for the title.
    """

    images: np.ndarray
    rms: np.ndarray
    answers: np.ndarray
    lost: np.ndarray
    how: str = ""

    def in_words(self):
        """Return how large the perturbations are, and how many images are lost."""
        if not len(self.rms):
            return "no attack succeeded"
        size = f"those shown: mean RMS {distortion(self.rms.mean())}"
        if not self.lost.any():
            return size
        return f"{size}; {self.lost.sum()} of {len(self.lost)} are lost (framed)"


def main(job, files):
    spec = job.spec
    found, _ = read_tensors(files.set, job.upstream("set"))
    whole = {"of": spec["base"]} | ({"detect": spec["detect"]} if "detect" in spec else {})
    images, _, _, facts = load_images(files.data, job.upstream("data"), whole, torch.device("cpu"))
    page = page_of(facts, answers=True)
    rows = chosen(page, found["labels"], facts["classes"], found["success"])
    places = np.concatenate(rows)
    originals = images[found["indices"][places]]
    shown = as_found(found, places)
    if files.source and len(places):
        network, _ = load_network(files.source[0], job.upstream("source"), torch.device("cpu"))
        shown = as_stored(found, places, originals, network, spec["stored"], spec["targets"])
    pairs = map(
        Pair,
        originals.numpy(),
        shown.images,
        found["labels"][places].tolist(),
        shown.answers.tolist(),
        shown.rms.tolist(),
        shown.lost.tolist(),
    )
    grid = [[next(pairs) for _ in row] for row in rows]
    title = f"Adversarial examples for {spec['label']}{shown.how}, {shown.in_words()}"
    with house_style():
        save_figure(example_grid(page, grid, title), (files.figure, files.pdf), job)


def as_found(found, places):
    """Return some images of a set as the attack found them."""
    nothing = np.zeros(len(places), bool)
    return Shown(*(found[name][places] for name in ("images", "rms", "targets")), nothing)


def as_stored(found, places, originals, network, way, targets):
    """Return some images of a set as they are read back from PNG files.

    Parameters
    ----------
    found : dict of str to ndarray
        The set.
    places : ndarray of int
        Positions of the images in it, successes only.
    originals : torch.Tensor of float32, shape (B, C, H, W)
    network : torch.nn.Module
        The one attacked.
    way : dict
        As `blindspots.evaluation.variants.stored.variants` returns it.
    targets : str
        Of the attack: ``untargeted``, or another rule.

    Returns
    -------
    Shown
    """
    some = {n: torch.from_numpy(found[n][places]) for n in ("images", "labels", "targets")}
    # As in the transfer table: where an attack found no target, any wrong label will do.
    goal = None if (found["targets"] < 0).any() else some["targets"]
    context = SimpleNamespace(
        source=network, labels=some["labels"], targets=goal, chunk=len(places)
    )
    images = png(stored.perturb(way, originals, some["images"], context))
    how = ", as 8-bit PNG"
    stretch = way.get("stretch")
    if stretch == stored.SURVIVE:
        how += ", stretched until they survive"
    else:
        meant = some["images"]
        if stretch is not None:
            meant = stretched(meant, originals, stretch)
            how += f", stretched by {stretch:.15g}"
        refuse_truncated(images, meant)
    answers = answers_of(logits_of(network, images, len(images), name="the source model"))
    lost = answers == some["labels"] if targets == "untargeted" else answers != some["targets"]
    return Shown(
        images.numpy(),
        rms_distortion(images, originals).numpy(),
        answers.numpy(),
        lost.numpy(),
        how,
    )


if __name__ == "__main__":
    run(main, reads="data set source*", writes="figure pdf provenance")
