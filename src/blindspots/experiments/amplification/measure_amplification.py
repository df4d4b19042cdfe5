"""Measure how much each layer of one network stretches small changes of images, and large ones.

Of the network, and of the same network with its first weights, which is attacked for this: the
labels that it is to leave are its own answers. Some untrained networks cannot be fooled, for they
give every image the same answer: of these all else is measured.
"""

import logging

import numpy as np
import torch

from blindspots.artifacts import write_record
from blindspots.attacks.targets import choose_targets
from blindspots.chunk import chunk_of
from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.experiments.amplification.fields import UNTRAINED
from blindspots.experiments.amplification.gains import (
    layers_of,
    lengths,
    partners,
    perturbations,
    stretches,
)
from blindspots.experiments.amplification.local import local_norms
from blindspots.experiments.amplification.rows import amplification_rows
from blindspots.models.inference import answers_of, logits_of
from blindspots.models.networks import placed
from blindspots.progress import Progress
from blindspots.randomness import gaussian_noise
from blindspots.steps.attacking import attack_all
from blindspots.steps.checkpoint import FileCheckpoint
from blindspots.steps.job import run
from blindspots.steps.loading import load_adversarial_set, load_images
from blindspots.steps.weights import built, load_network, seed_of_weights

LOG = logging.getLogger(__name__)


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    whole = {"of": spec["base"]}
    images, _, _, facts = load_images(files.data, job.upstream("data"), whole, device)
    found, _ = load_adversarial_set(files.set, job.upstream("set"), facts, device)
    if int(found["indices"].max()) >= len(images):
        raise UserError(f"{files.set} refers to images that {files.data} does not have")
    originals, indices = images[found["indices"]], found["indices"].cpu().numpy()
    network, about = load_network(files.model, job.upstream("model"), device)
    first = built(about["network"], seed_of_weights(spec["seed"])).eval()
    first = placed(first, about["network"]["architecture"]["kind"], device)
    chunk = chunk_of(spec["chunk"], images)
    checkpoint = FileCheckpoint(job, files.record, device)
    # The untrained network is attacked first: what follows takes less time.
    own = _attack_untrained(first, originals, indices, spec, chunk, checkpoint)
    some = found["success"]
    if int(some.sum()) < 2:
        raise UserError(
            f"{files.set}: fewer than two attacks succeeded, and each perturbation is shown to "
            "another image, too; attack more images, or with another method"
        )
    pool = originals[some], found["images"][some], indices[some.cpu().numpy()]
    rows = _measured(spec["model"], network, pool, spec, chunk, checkpoint)
    some = own["success"]
    LOG.info("the untrained network is fooled on %d of %d images", int(some.sum()), len(some))
    if int(some.sum()) >= 2:
        pool = originals[some], own["images"][some].to(device), indices[some.cpu().numpy()]
    rows += _measured(
        spec["model"] + UNTRAINED, first, pool, spec, chunk, checkpoint, fooled=int(some.sum()) >= 2
    )
    write_record(files.record, {**job.provenance(device=device.type), "rows": _finite(rows)})
    checkpoint.remove()


def _attack_untrained(network, images, indices, spec, chunk, checkpoint):
    """Return the adversarial images of the same network before its training."""
    attack = spec["attack"]
    logits = logits_of(network, images, chunk, name="the network before its training")
    answers = answers_of(logits)
    targets = choose_targets(
        attack["targets"],
        logits,
        answers,
        indices,
        seed=spec["seed"],
        base=spec["base"],
        given=attack.get("given"),
    )
    return attack_all(network, images, answers, targets, attack, chunk, checkpoint)


def _measured(name, network, pool, spec, chunk, checkpoint, fooled=True):
    """Return the rows of one network; the images of a pool are measured some at a time.

    One that is not fooled has no adversarial perturbations; those of the pool give the noise its
    length.
    """
    originals, adversarial, indices = pool
    stage = f"measured {name}"
    shape, stream = tuple(originals.shape[1:]), (spec["base"], spec["seed"])
    layers = layers_of(network, shape)
    state = checkpoint.load(stage) or {"moved": [], "norms": []}
    # Four perturbations and the image itself pass together, in double precision.
    together = max(1, chunk // 10)
    few = _parts(min(spec["jacobians"], len(originals)), together)
    all_parts = _parts(len(originals), together)
    done = len(state["norms"]) + len(state["moved"])
    progress = Progress("parts of the images", len(few) + len(all_parts), done)
    for part in few[len(state["norms"]) :]:
        directions = gaussian_noise(indices[part], shape, "directions", *stream)
        start = torch.from_numpy(directions).to(originals)
        state["norms"].append(local_norms(network, layers, originals[part], start).cpu())
        checkpoint.save(stage, lambda: state)
        progress.report(len(state["norms"]))
    network.double()
    partner = partners(len(originals), *stream).to(originals.device)
    originals, adversarial = originals.double(), adversarial.double()
    sizes = lengths(adversarial - originals)
    if not fooled:
        adversarial = torch.full_like(adversarial, torch.nan)
    changes = perturbations(
        originals, adversarial, sizes, partner, indices, "amplification", *stream
    )
    for part in all_parts[len(state["moved"]) :]:
        those = [change[part] for change in changes.values()]
        moved = stretches(network, layers, originals[part], those)
        state["moved"].append(moved.cpu())
        checkpoint.save(stage, lambda: state)
        progress.report(len(few) + len(state["moved"]))
    moved, norms = (torch.cat(state[name], -1).numpy() for name in ("moved", "norms"))
    found = amplification_rows(layers, moved, norms.astype(np.float64))
    return [{"network": name, "seed": spec["seed"], **row} for row in found]


def _parts(count, together):
    return [slice(start, min(start + together, count)) for start in range(0, count, together)]


def _finite(rows):
    """Return rows in which numbers that there are none of are None: JSON has no NaN."""
    return [
        {k: v if isinstance(v, str | int) or np.isfinite(v) else None for k, v in row.items()}
        for row in rows
    ]


if __name__ == "__main__":
    run(main, reads="data model set", writes="record")
