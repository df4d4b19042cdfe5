"""Read a data set, check it, and store it as one artifact."""

import os

from blindspots.artifacts import write_tensors
from blindspots.data.catalogue import CATALOGUE
from blindspots.data.datasets import load_dataset
from blindspots.steps.job import run


def main(job, options):
    name = job.spec["dataset"]
    download = os.environ.get("BLINDSPOTS_DOWNLOAD") == "1"
    data = load_dataset(name, os.environ.get("BLINDSPOTS_DATA", "data"), download)
    tensors = {f"{base}_images": images for base, images in data.images.items()}
    tensors |= {f"{base}_labels": labels for base, labels in data.labels.items()}
    facts = {
        "maximum": data.maximum,
        "classes": CATALOGUE[name].classes,
        "shape": list(data.images["train"].shape[1:]),
    }
    write_tensors(options.output, tensors, job.provenance(facts=facts))


if __name__ == "__main__":
    run(main, {"output": "data artifact to write"})
