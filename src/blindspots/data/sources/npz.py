"""A user's images and labels in a NumPy archive: ``dataset: {npz: file.npz}``."""

from blindspots.data import npz
from blindspots.data.facts import Dataset
from blindspots.data.root import below

KEY = "npz"
PACKAGES = ("numpy",)
SCHEMA = {
    "npz": {
        "description": (
            "An archive with train_images and test_images (uint8, N x H x W or N x H x W x C), "
            "train_labels and test_labels, and classes, the names, if there are any; looked for in "
            "the working directory, then in the data root"
        ),
        "$ref": "#/$defs/line",
        "minLength": 1,
    }
}


def facts(config, root):
    """Return the facts of the data set, from the headers of the archive and its labels."""
    return npz.facts(below(root, config["dataset"][KEY]))


def options(config, root):
    """Return where the archive lies."""
    return {"file": below(root, config["dataset"][KEY])}


def load(job):
    """Read the archive that was planned for."""
    path = job.options["file"]
    images, labels = npz.load(path, job.spec["content"])
    return Dataset(images, labels, npz.facts(path))


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load, "file")
