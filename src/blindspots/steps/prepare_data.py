"""Read a data set, check it, and store it as one artifact."""

from blindspots.artifacts import write_tensors
from blindspots.data.catalogue import CATALOGUE
from blindspots.data.datasets import load_dataset
from blindspots.steps.job import run


def main(job, options):
    name = job.spec["dataset"]
    data = load_dataset(name, options.root, options.download == "1", job.spec.get("content"))
    tensors = {f"{base}_images": images for base, images in data.images.items()}
    tensors |= {f"{base}_labels": labels for base, labels in data.labels.items()}
    facts = {
        "maximum": data.maximum,
        "classes": CATALOGUE[name].classes,
        "shape": list(data.images["train"].shape[1:]),
    }
    write_tensors(options.output, tensors, job.provenance(facts=facts))


if __name__ == "__main__":
    run(
        main,
        {
            "root": "folder of data sets in torchvision's layout",
            "download": "1 to fetch missing files into it",
            "output": "data artifact to write",
        },
    )
