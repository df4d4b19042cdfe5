"""Evaluate one adversarial set on every victim: one row of the transfer table."""

from blindspots.device import configure_torch
from blindspots.errors import UserError
from blindspots.experiments.transfer.rows import write_row
from blindspots.steps.job import run
from blindspots.steps.loading import load_adversarial_set, load_images
from blindspots.steps.weights import load_network


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    whole = {"of": spec["base"]}
    images, _, _, facts = load_images(files.data, job.upstream("data"), whole, device)
    found, about = load_adversarial_set(files.set, job.upstream("set"), facts, device)
    source, source_about = load_network(files.source, job.upstream("source"), device)
    indices = found["indices"]
    if int(indices.max()) >= len(images):
        raise UserError(f"{files.set} refers to images that {files.data} does not have")
    write_row(
        job,
        files.victims,
        files.row,
        device,
        pool=(images[indices], found["labels"], indices.cpu().numpy(), spec["base"]),
        found=found,
        source=source,
        identity=[about["content"], source_about["content"], job.upstream("data")],
    )


if __name__ == "__main__":
    run(main, reads="data set source victims*", writes="row")
