"""Attack one model on the images of one pool that it classifies correctly, or on a part of them."""

import logging

import torch

from blindspots.attacks.best_of import BestOfResult, members_for
from blindspots.attacks.pool import right_answers
from blindspots.attacks.targets import choose_targets
from blindspots.chunk import chunk_of
from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.parts import part_of
from blindspots.steps.attacking import attack_all
from blindspots.steps.checkpoint import FileCheckpoint
from blindspots.steps.job import run
from blindspots.steps.loading import load_images, to_arrays
from blindspots.steps.sets import write_set
from blindspots.steps.weights import load_network

LOG = logging.getLogger(__name__)


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, indices, _ = load_images(
        files.data, job.upstream("data"), spec["images"], device
    )
    network, _ = load_network(files.model, job.upstream("model"), device)
    chunk = chunk_of(spec["chunk"], images)
    logits, right = right_answers(
        network, images, labels, chunk, name=f"the network of {files.model}"
    )
    left_out = int((~right).sum())
    LOG.info("%d images, %d left out: already misclassified", len(images), left_out)
    if left_out == len(images):
        raise UserError(
            f"{files.model} classifies no image of the pool correctly, so there is none to "
            "attack; train it better or leave it out of the sources"
        )
    attack = spec["attack"]
    chosen = right.nonzero()[: attack.get("most"), 0]
    images, labels, logits = images[chosen], labels[chosen], logits[chosen]
    indices = indices[chosen.cpu().numpy()]
    targets = choose_targets(
        attack["targets"],
        logits,
        labels,
        indices,
        seed=spec["seed"],
        base=spec["images"]["of"],
        given=attack.get("given"),
    )
    part = part_of(len(images), chunk, *spec.get("part", (0, 1)))
    if isinstance(targets, torch.Tensor):
        targets = targets[part]
    checkpoint = FileCheckpoint(job, files.adversarial, device)
    found = attack_all(network, images[part], labels[part], targets, attack, chunk, checkpoint)
    if "winners" in found:
        members = attack["options"].get("members") or members_for(logits.shape[1])
        _log_shares(found, members)
    arrays = to_arrays({**found, "labels": labels[part]})
    arrays["indices"] = indices[part]
    write_set(
        job,
        files.adversarial,
        arrays,
        left_out=left_out,
        device=device.type,
        threads=job.threads,
        chunk=chunk,
    )
    checkpoint.remove()


def _log_shares(found, members):
    for member, share in zip(members, BestOfResult(**found).shares(members), strict=True):
        LOG.info("%s %s won %.1f %%", member["method"], member.get("options", {}), 100 * share)


if __name__ == "__main__":
    run(main, reads="data model", writes="adversarial")
