"""What tests of sources share: a small study, its data in every form, and steps that are run."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from blindspots.study.study import Study
from blindspots.user_modules import normalised

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["cat", "dog", "emu", "fox"]
STUDY = {
    "study": "small",
    "models": {"A": {"architecture": "softmax", "split": "train"}},
    "attacks": {"a": {"method": "ddn", "targets": "random", "images": "test"}},
    "experiments": {"e": {"attack": "a", "sources": ["A"]}},
}


def synthetic(sides=(32, 32), channels=3, train=12, test=8):
    """Return arrays as an archive holds them, class by class, with names of the classes."""
    draw = np.random.default_rng(0)
    arrays = {"classes": np.array(NAMES)}
    for base, count in (("train", train), ("test", test)):
        arrays[f"{base}_images"] = draw.integers(0, 256, (count, *sides, channels), dtype=np.uint8)
        arrays[f"{base}_labels"] = np.sort(np.arange(count) % len(NAMES))
    return arrays


def as_folder(arrays, folder, suffix="png", **options):
    """Write arrays as pictures in class folders; return the value of ``dataset``."""
    for base in ("train", "test"):
        pairs = zip(arrays[f"{base}_images"], arrays[f"{base}_labels"], strict=True)
        for number, (image, label) in enumerate(pairs):
            place = folder / base / str(arrays["classes"][label])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.squeeze()).save(place / f"{number:05d}.{suffix}", **options)
    return {"folder": str(folder)}


def as_tables(arrays, folder):
    """Write arrays as pictures and CSV files that list them; return the value of ``dataset``."""
    (folder / "images").mkdir(parents=True)
    for base in ("train", "test"):
        rows = ["path,label,name"]
        pairs = zip(arrays[f"{base}_images"], arrays[f"{base}_labels"], strict=True)
        for number, (image, label) in enumerate(pairs):
            Image.fromarray(image.squeeze()).save(folder / f"images/{base}{number}.png")
            rows.append(f"images/{base}{number}.png,{label},{arrays['classes'][label]}")
        (folder / f"{base}.csv").write_text("\n".join(rows) + "\n")
    return {"folder": str(folder), "train": "train.csv", "test": "test.csv"}


def as_cifar(arrays, root, protocol=4):
    """Write arrays in the layout of CIFAR-10 below a data root; return the value of ``dataset``."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name, images, labels):
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        held = {"batch_label": name, "labels": labels.tolist(), "data": rows}
        (folder / name).write_bytes(pickle.dumps(held, protocol))

    parts = np.array_split(np.arange(len(arrays["train_labels"])), 5)
    for number, part in enumerate(parts, 1):
        images, labels = (arrays[f"train_{kind}"][part] for kind in ("images", "labels"))
        write(f"data_batch_{number}", images, labels)
    write("test_batch", arrays["test_images"], arrays["test_labels"])
    names = {"label_names": arrays["classes"].tolist(), "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol))
    return {"torchvision": "CIFAR10"}


def as_archive(arrays, path):
    """Write arrays as an archive; return the value of ``dataset``."""
    np.savez(path, **arrays)
    return {"npz": str(path)}


def as_function(arrays, folder, name="my_data"):
    """Write arrays, and a function that returns them; return the value of ``dataset``."""
    np.savez(folder / f"{name}_arrays.npz", **arrays)
    (folder / f"{name}.py").write_text(
        "import numpy as np\n\n\n"
        "def load(file):\n"
        "    with np.load(file) as held:\n"
        "        return dict(held)\n"
    )
    options = {"file": str(folder / f"{name}_arrays.npz")}
    return {"module": f"{name}:load", "options": options}


def study_of(dataset, schema, command_line=None, **changes):
    """Return the small study on a data set."""
    normalised.cache_clear()  # each is a planning of its own
    config = {**STUDY, "dataset": dataset, **changes}
    return Study(config, schema, ROOT / "workflow/reference", [os.getcwd()], command_line)


def prepared(study, path):
    """Run the step that prepares the data of a study, as its rule does."""
    job = study.job("prepare_data")
    command = [sys.executable, "-m", job.module, "--spec", job.spec, "--code", job.code]
    for name, value in job.options.items():
        command += [f"--{name}", value]
    elsewhere = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, elsewhere))}
    return subprocess.run(
        [*command, "--to", str(path)], env=environment, capture_output=True, text=True
    )


def payload(path):
    """Return the bytes of an artifact behind its header, and what the header says of the data."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    about = json.loads(header.pop("__metadata__")["blindspots"])
    return content[start:], header, about["facts"]
