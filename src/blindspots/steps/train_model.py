"""Train one model with one seed."""

import logging
import math

import torch

from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.models.networks import placed
from blindspots.models.training import decay_rates, train_classifier
from blindspots.progress import announce
from blindspots.seeding import seeded
from blindspots.steps.checkpoint import FileCheckpoint
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.weights import (
    built,
    code_of_others,
    reloaded,
    save_network,
    seed_of_weights,
    weights_of,
)

LOG = logging.getLogger(__name__)


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, _, facts = load_images(files.data, job.upstream("data"), spec["split"], device)
    seed = seed_of_weights(spec["seed"])
    about = {
        "architecture": spec["architecture"],
        "shape": facts["shape"],
        "classes": facts["classes"],
    }
    kind = spec["architecture"]["kind"]
    network = built(about, seed)
    with code_of_others(kind):
        _rehearse(network, about, spec["training"], images[:2], labels[:2])
    if ":" in kind:
        _announce(kind, network)
    placed(network, kind, device)
    checkpoint = FileCheckpoint(job, files.model, device)
    record = train_classifier(network, images, labels, spec["training"], seed, checkpoint)
    for part in (record.get("pretraining", record), record):
        if not math.isfinite(part["loss"]):
            raise _diverged(checkpoint, files.model, f"its loss is {part['loss']}")
    try:
        weights_of(network)
    except ValueError as error:
        raise _diverged(checkpoint, files.model, str(error)) from None
    if record["converged"] is False:
        LOG.warning("not converged within %d evaluations", record["evaluations"])
    provenance = job.provenance(network=about, training=record, device=device.type)
    save_network(files.model, network, provenance)
    checkpoint.remove()


def _rehearse(network, about, training, images, labels):
    """Do once, on a copy, all that a network is trained for: what fails does so now.

    It is saved and read back in memory, and learns from two images.
    """
    # Refuses a list that does not fit the layers, too.
    decay_rates(network, training["weight_decay"], training["weight_decay_convention"])
    copy = reloaded(network, about).to(images.device)
    with seeded(0, images.device):
        loss = torch.nn.functional.cross_entropy(copy(images.clone()), labels)
        loss.backward()
    weights_of(copy)


def _announce(kind, network):
    """Say what is trained of a user's network, on the terminal, too."""
    parameters = list(network.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    announce(
        f"training {trained} of {count} weights of {kind}, from the values that it returned: "
        "weights that were trained before are trained anew"
    )


def _diverged(checkpoint, output, what):
    """Return the mistake of a training that leads nowhere, whose state is not kept."""
    checkpoint.remove()
    return UserError(
        f"the training of {output} diverged, {what}; lower the model's learning_rate or "
        "weight_decay"
    )


if __name__ == "__main__":
    run(main, reads="data", writes="model")
