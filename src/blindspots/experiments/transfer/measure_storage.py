"""Measure the margins of one adversarial set, and those that it needs to be stored in 8 bits."""

import numpy as np
import torch

from blindspots.artifacts import write_record
from blindspots.chunk import chunk_of
from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.evaluation.distortion import rms_distortion
from blindspots.evaluation.storage import rounded, storage_margins
from blindspots.models.admission import admit
from blindspots.models.state import frozen
from blindspots.steps.job import run
from blindspots.steps.loading import load_adversarial_set, load_images
from blindspots.steps.weights import load_network

QUARTILES = (0.25, 0.5, 0.75)


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    whole = {"of": spec["base"]}
    images, _, _, facts = load_images(files.data, job.upstream("data"), whole, device)
    found, _ = load_adversarial_set(files.set, job.upstream("set"), facts, device)
    if int(found["indices"].max()) >= len(images):
        raise UserError(f"{files.set} refers to images that {files.data} does not have")
    network, _ = load_network(files.model, job.upstream("model"), device)
    success = found["success"]
    adversarial, originals = found["images"][success], images[found["indices"][success]]
    labels = found["labels"][success]
    targets = None if spec["targets"] == "untargeted" else found["targets"][success]
    parts = []
    chunk = chunk_of(spec["chunk"], images)
    with frozen(network):
        for start in range(0, len(adversarial), chunk):
            rows = slice(start, start + chunk)
            shown, base = adversarial[rows], originals[rows]
            model = admit(network, shown, name="the source model", gradients=True)
            goal = None if targets is None else targets[rows]
            measured = storage_margins(model, shown, base, labels[rows], goal)
            parts.append(measured | {"rounding_rms": rms_distortion(rounded(shown), shown)})
    names = parts[0] if parts else {}
    measures = {name: _summary(torch.cat([part[name] for part in parts])) for name in names}
    write_record(
        files.record, {**job.provenance(), "images": len(adversarial), "measures": measures}
    )


def _summary(values):
    """Return mean and quartiles over images."""
    values = values.double().cpu().numpy()
    return {"mean": float(values.mean()), "quartiles": np.quantile(values, QUARTILES).tolist()}


if __name__ == "__main__":
    run(main, reads="data set model", writes="record")
