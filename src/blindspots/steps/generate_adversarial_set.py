"""Attack one model on the images of one pool that it classifies correctly, or on a part of them."""

import logging

import torch

from blindspots.attacks.best_of import BestOfResult, members_for
from blindspots.attacks.cost import seconds_of
from blindspots.attacks.external import AttackError
from blindspots.attacks.methods import method
from blindspots.attacks.pool import attacked, right_answers
from blindspots.attacks.targets import choose_targets
from blindspots.chunk import chunk_of
from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.parts import part_of
from blindspots.progress import Progress, foretell
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
    images, labels, logits = images[right], labels[right], logits[right]
    indices = indices[right.cpu().numpy()]

    attack = spec["attack"]
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
    try:
        found = _attacked(network, images[part], labels[part], targets, attack, chunk, checkpoint)
    except AttackError as error:
        raise UserError(str(error)) from error
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


def _attacked(network, images, labels, targets, attack, chunk, checkpoint):
    """Attack in chunks, with progress in the log; return what is known of each image."""
    if len(images) == 0:  # there are more parts than chunks
        return {"success": torch.zeros(0, dtype=torch.bool), "rms": torch.zeros(0)}
    found = checkpoint.load("attack") or {}
    done = len(found.get("success", ()))
    left = images[done:]
    seconds = seconds_of(network, left, targets, attack, chunk)
    foretell(seconds, f"{len(left)} images, {chunk} at a time")
    progress = Progress(f"{attack['method']}, images", len(images), done)
    parts = [found] if done else []

    def joined():
        parts[:] = [{name: torch.cat([part[name] for part in parts]) for name in parts[0]}]
        return parts[0]

    engine, options = method(attack["method"]), attack["options"]
    for count, result in attacked(
        engine, network, images, labels, targets, chunk, options, start=done
    ):
        parts.append({name: value.cpu() for name, value in vars(result).items()})
        checkpoint.save("attack", joined)
        progress.report(count, "")
    return joined()


def _log_shares(found, members):
    for member, share in zip(members, BestOfResult(**found).shares(members), strict=True):
        LOG.info("%s %s won %.1f %%", member["method"], member.get("options", {}), 100 * share)


if __name__ == "__main__":
    run(main, reads="data model", writes="adversarial")
