"""Compare the units of every layer of one model with random directions."""

from blindspots.artifacts import write_tensors
from blindspots.chunk import chunk_of
from blindspots.device import configure_torch
from blindspots.experiments.units.measure import measure_units
from blindspots.models.layers import LOGITS, hidden_features
from blindspots.steps.checkpoint import FileCheckpoint
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.untrained import untrained
from blindspots.steps.weights import load_network


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, _, _ = load_images(files.data, job.upstream("data"), spec["images"], device)
    network, about = load_network(files.model, job.upstream("model"), device)
    other, _ = load_network(files.reference, job.upstream("reference"), device)
    chunk = chunk_of(spec["chunk"], images)
    networks = {
        f"the network of {files.model}": network,
        f"the untrained network of {files.model}": untrained(about, device),
        f"the network of {files.reference}": other,
    }
    trained, before, reference = (
        hidden_features(one, images, chunk, name) for name, one in networks.items()
    )
    *_, last = (layer for layer in reference if layer != LOGITS)
    checkpoint = FileCheckpoint(job, files.units, device)
    found = measure_units(
        trained, before, reference[last], images, labels, spec["bases"], spec["seed"], checkpoint
    )
    rows = [_finite(row) for row in found.rows]
    write_tensors(files.units, found.arrays, job.provenance(rows=rows, device=device.type))
    checkpoint.remove()


def _finite(row):
    """Return a row in which numbers that there are none of are None: JSON has no NaN."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}


if __name__ == "__main__":
    run(main, reads="data model reference", writes="units")
