"""MNIST and the data sets that come in its form: IDX files below a data root."""

from dataclasses import replace

from blindspots.data.catalogue import CATALOGUE, facts_of
from blindspots.data.idx import contents

NAMES = tuple(CATALOGUE)
PACKAGES = ("numpy",)


def facts(config, root):
    """Return the facts of the data set, which its files are checked against."""
    name = config["dataset"]
    return replace(facts_of(name), content=contents(name, root))


def options(config, root):
    """Return where the files lie, and whether missing ones may be fetched."""
    return {"root": root, "download": str(int(config["download"]))}


def load(job):
    """Read and check the files, after a download if need be."""
    from blindspots.data.datasets import load_dataset

    root, download = job.options["root"], job.options["download"] == "1"
    return load_dataset(job.spec["dataset"], root, download, job.spec["content"])


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load, "root download")
