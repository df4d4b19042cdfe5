"""Evaluate clean and noisy images of one pool on every victim."""

from blindspots.device import configure_torch
from blindspots.steps.job import run
from blindspots.steps.loading import load_images
from blindspots.steps.rows import write_row


def main(job, options):
    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, indices, _ = load_images(
        options.data, job.upstream("data"), spec["images"], device
    )
    write_row(
        job,
        options,
        device,
        pool=(images, labels, indices, spec["images"]["of"]),
        identity=[spec["images"], spec["seed"], job.upstream("data")],
    )


if __name__ == "__main__":
    run(
        main,
        {
            "data": "data artifact",
            "victims*": "models to evaluate, in the order of the specification",
            "output": "row to write",
        },
    )
