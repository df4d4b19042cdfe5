"""Measure how well one detector tells images apart, and what deceives it."""

from blindspots.artifacts import write_tensors
from blindspots.chunk import chunk_of
from blindspots.device import configure_torch
from blindspots.models.inference import logits_of
from blindspots.steps.job import run
from blindspots.steps.loading import load_adversarial_set, load_images, to_arrays
from blindspots.steps.weights import load_network


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, _, facts = load_images(files.data, job.upstream("data"), spec["images"], device)
    found, _ = load_adversarial_set(files.set, job.upstream("set"), facts, device)
    network, _ = load_network(files.model, job.upstream("model"), device)
    chunk = chunk_of(spec["chunk"], images)
    logits = logits_of(network, images, chunk, name=f"the network of {files.model}")
    measured = {"scores": logits[:, 1] - logits[:, 0], "labels": labels}
    measured |= {f"attacked_{k}": found[k] for k in ("labels", "indices", "success", "rms")}
    write_tensors(files.measured, to_arrays(measured), job.provenance(device=device.type))


if __name__ == "__main__":
    run(main, reads="data model set", writes="measured")
