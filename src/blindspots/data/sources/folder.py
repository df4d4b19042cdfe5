"""Pictures of a user's own: ``dataset: {folder: DIR}``, class folders or CSV files below it."""

import os
from dataclasses import replace

from blindspots.data import picture_folder
from blindspots.data.picture_lists import listed
from blindspots.data.root import below
from blindspots.errors import UserError

KEY = "folder"
PACKAGES = ("numpy", "pillow")
LINE = {"$ref": "#/$defs/line", "minLength": 1}
SIDE = {"type": "integer", "minimum": 1, "maximum": 100000}
SCHEMA = {
    "folder": {
        "description": "A folder of pictures; looked for in the working directory, then in the "
        "data root",
        **LINE,
    },
    "train": {
        "description": "Training images: a folder with a folder of pictures for each class, or a "
        "CSV file with columns path, seen from that file, and label or class_index, seen from the "
        "folder; `train` where that is there, else none",
        **LINE,
    },
    "test": {"description": "Test images, in the same way", **LINE, "default": "test"},
    "classes": {
        "description": "A file with the name of one class a line, below the folder, or how many "
        "classes there are; unless given, those that have training images",
        "anyOf": [{"type": "integer", "minimum": 2, "maximum": 1000000}, LINE],
    },
    "resize": {
        "description": "Length of the shorter side; bilinear, with antialiasing",
        **SIDE,
    },
    "crop": {
        "description": "Side, or height and width, of what is cut out of the middle then",
        "anyOf": [SIDE, {"type": "array", "minItems": 2, "maxItems": 2, "items": SIDE}],
    },
    "channels": {
        "description": "1 for grey, 3 for RGB; unless given, 3 if a picture has colours",
        "enum": [1, 3],
    },
}


def facts(config, root):
    """Return the facts of the data set, from the pictures' headers."""
    dataset, places = config["dataset"], options(config, root)
    folder, form, classes = places["folder"], _form(dataset), dataset.get("classes")
    if not os.path.isdir(folder):
        what = "is not a folder" if os.path.exists(folder) else "is missing"
        raise UserError(
            f"{folder} {what}; give the folder of the pictures, in the working directory or in the "
            "data root"
        )
    count = {"classes": classes} if isinstance(classes, int) else {}
    found = picture_folder.planned(folder, _listed(places, **count), form)
    made = {"pictures": found.content, **count, **form, "channels": found.shape[0]}
    return replace(found, content=made)


def options(config, root):
    """Return where the folder and what is below it lie; of what is not there, nothing."""
    dataset = config["dataset"]
    folder = below(root, dataset[KEY])
    train, classes = os.path.join(folder, dataset.get("train", "train")), dataset.get("classes")
    return {
        "folder": folder,
        "train": train if "train" in dataset or os.path.exists(train) else "",
        "test": os.path.join(folder, dataset["test"]),
        "classes": os.path.join(folder, classes) if isinstance(classes, str) else "",
    }


def load(job):
    """Read the pictures that were planned for."""
    form = dict(job.spec["content"])
    digest, classes = form.pop("pictures"), form.pop("classes", None)
    return picture_folder.load(_listed(job.options, classes), digest, form)


def _listed(places, classes=None):
    """List the pictures; ``classes`` is how many there are, where that is given."""
    return listed(places["train"], places["test"], classes or places["classes"] or None)


def _form(dataset):
    """Return what is made of the pictures."""
    form = {key: dataset[key] for key in ("resize", "crop", "channels") if key in dataset}
    if isinstance(form.get("crop"), int):
        form["crop"] = [form["crop"]] * 2
    return form


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load, "folder train test classes")
