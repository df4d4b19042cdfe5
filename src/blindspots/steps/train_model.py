"""Train one model with one seed."""

import logging
import math

from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.models.networks import build_network
from blindspots.models.training import train_classifier, weight_decay
from blindspots.randomness import stable_seed
from blindspots.steps.checkpoint import FileCheckpoint
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.weights import save_network

LOG = logging.getLogger(__name__)


def main(job, options):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, _, facts = load_images(
        options.data, job.upstream("data"), spec["split"], device
    )
    seed = stable_seed("model", spec["seed"]) % 2**63
    try:
        network = build_network(spec["architecture"], tuple(facts["shape"]), facts["classes"], seed)
        training = spec["training"]
        # Refuses a list that does not fit the layers.
        weight_decay(network, training["weight_decay"], training["weight_decay_convention"])
    except (ImportError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        if ":" not in spec["architecture"]["kind"]:
            raise
        raise UserError(f"the network {spec['architecture']['kind']} failed: {error}") from error
    network.to(device)
    checkpoint = FileCheckpoint(job, options.output, device)
    record = train_classifier(network, images, labels, spec["training"], seed, checkpoint)
    for part in (record.get("pretraining", record), record):
        if not math.isfinite(part["loss"]):
            checkpoint.remove()  # it leads nowhere
            raise UserError(
                f"the training of {options.output} diverged, its loss is {part['loss']}; lower the "
                "model's learning_rate or weight_decay"
            )
    if record["converged"] is False:
        LOG.warning("not converged within %d evaluations", record["evaluations"])
    about = {
        "architecture": spec["architecture"],
        "shape": facts["shape"],
        "classes": facts["classes"],
    }
    provenance = job.provenance(network=about, training=record, device=device.type)
    save_network(options.output, network, provenance)
    checkpoint.remove()


if __name__ == "__main__":
    run(main, {"data": "data artifact", "output": "model to write"})
