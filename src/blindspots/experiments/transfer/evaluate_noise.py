"""Evaluate clean and noisy images of one pool on every victim."""

from blindspots.device import configure_torch
from blindspots.experiments.transfer.rows import write_row
from blindspots.steps.job import run
from blindspots.steps.loading import load_images


def main(job, files):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, indices, _ = load_images(
        files.data, job.upstream("data"), spec["images"], device
    )
    write_row(
        job,
        files.victims,
        files.row,
        device,
        pool=(images, labels, indices, spec["images"]["of"]),
        identity=[spec["images"], spec["seed"], job.upstream("data")],
    )


if __name__ == "__main__":
    run(main, reads="data victims*", writes="row")
