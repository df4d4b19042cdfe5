"""A user's images and labels in a NumPy archive: ``dataset: {npz: file.npz}``."""

import os
from contextlib import suppress
from functools import cache

from blindspots.data import npz
from blindspots.data.facts import Dataset, Facts
from blindspots.data.root import below

KEY = "npz"
PACKAGES = ("numpy",)
SCHEMA = {
    "description": (
        "An archive with train_images and test_images (uint8, N x H x W or N x H x W x C), "
        "train_labels and test_labels, and classes, the names, if there are any; looked for in the "
        "working directory, then in the data root"
    ),
    "$ref": "#/$defs/line",
    "minLength": 1,
}


def facts(config, root):
    """Return the facts of the data set, from the headers of the archive and its labels."""
    found = _read(below(root, config["dataset"][KEY]))
    named = found.class_names != [str(number) for number in range(found.classes)]
    return Facts(
        found.title,
        found.sizes,
        found.shape,
        found.classes,
        found.maximum,
        found.class_names if named else None,
    )


def content(config, root):
    """Return the digest of the archive."""
    return _read(below(root, config["dataset"][KEY])).content


def options(config, root):
    """Return where the archive lies."""
    return {"file": below(root, config["dataset"][KEY])}


def load(job):
    """Read the archive that was planned for."""
    path = job.options["file"]
    images, labels = npz.load(path, job.spec["content"])
    return Dataset(images, labels, facts({"dataset": {KEY: path}}, "."))


def _read(path):
    """Return the facts of an archive; planning asks several times for what it reads once."""
    stamp = ()
    with suppress(OSError):  # which is told when it is read
        status = os.stat(path)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    return _once(path, stamp)


@cache
def _once(path, stamp):
    return npz.facts(path)


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load, "file")
