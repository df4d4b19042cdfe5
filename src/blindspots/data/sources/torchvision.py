"""Data sets of torchvision, in its own layout: ``dataset: {torchvision: CIFAR10}``."""

from dataclasses import replace

from blindspots.data import torchvision_files
from blindspots.data.torchvision_catalogue import CATALOGUE

KEY = "torchvision"
PACKAGES = ("numpy", "scipy")
SCHEMA = {
    "torchvision": {
        "description": "A data set, by its name in torchvision; its files lie below the data root, "
        "where torchvision looks for them",
        "enum": list(CATALOGUE),
    }
}


def facts(config, root):
    """Return the facts of the data set: as published or, where files differ, as these tell."""
    name = config["dataset"][KEY]
    found = torchvision_files.planned(name, root)
    return replace(found, content={"name": name, "files": found.content})


def options(config, root):
    """Return where the files lie, and whether missing ones may be fetched."""
    return {"root": root, "download": str(int(config["download"]))}


def load(job):
    """Read and check the files, after a download if need be."""
    content, download = job.spec["content"], job.options["download"] == "1"
    return torchvision_files.load(content["name"], job.options["root"], download, content["files"])


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load, "root download")
