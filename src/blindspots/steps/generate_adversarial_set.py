"""Attack one model on the images of one pool that it classifies correctly."""

import logging

import numpy as np

from blindspots.artifacts import write_tensors
from blindspots.attacks.best_of import MEMBERS
from blindspots.attacks.external import AttackError
from blindspots.attacks.methods import method
from blindspots.attacks.result import concatenate
from blindspots.attacks.targets import choose_targets
from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.models.inference import logits_of
from blindspots.progress import Progress
from blindspots.steps.job import run
from blindspots.steps.loading import load_images, load_network, to_arrays

LOG = logging.getLogger(__name__)


def main(job, options):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, indices, _ = load_images(
        options.data, job.upstream("data"), spec["images"], device
    )
    network, _ = load_network(options.model, job.upstream("model"), device)
    chunk = spec["chunk"]
    logits = logits_of(network, images, chunk)
    right = logits.argmax(1) == labels
    left_out = int((~right).sum())
    LOG.info("%d images, %d left out: already misclassified", len(images), left_out)
    if left_out == len(images):
        raise UserError(
            f"{options.model} classifies no image of the pool correctly, so there is none to "
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
    try:
        result = _attacked(network, images, labels, targets, attack, chunk)
    except AttackError as error:
        raise UserError(str(error)) from error
    failed = int((~result.success).sum())
    LOG.info("%d attacked, %d failed", len(images), failed)
    LOG.info("mean RMS %.5f", result.rms.nanmean())
    if attack["method"] == "best_of":
        members = attack["options"].get("members", MEMBERS)
        for member, share in zip(members, result.shares(members), strict=True):
            LOG.info("%s %s won %.1f %%", member["method"], member.get("options", {}), 100 * share)
    arrays = to_arrays({**vars(result), "labels": labels})
    arrays["indices"] = np.ascontiguousarray(indices)
    provenance = job.provenance(left_out=left_out, failed=failed, device=device.type)
    write_tensors(options.output, arrays, provenance)


def _attacked(network, images, labels, targets, attack, chunk):
    """Attack in chunks, with progress in the log."""
    attack_images = method(attack["method"])
    progress = Progress(f"{attack['method']}, images", len(images))
    results = []
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        goal = targets if targets is None or isinstance(targets, str) else targets[part]
        results.append(
            attack_images(
                network, images[part], labels[part], targets=goal, chunk=chunk, **attack["options"]
            )
        )
        progress.report(min(start + chunk, len(images)), "")
    return concatenate(results)


if __name__ == "__main__":
    run(
        main,
        {
            "data": "data artifact",
            "model": "source model",
            "output": "adversarial set to write",
        },
    )
