"""Studies on images of a user's own, by snakemake: from pictures, and with a test set alone."""

import os
import pickle
import shutil

import numpy as np
import pytest
import sources
import torch
from safetensors.numpy import load_file
from test_mistakes import told_and_nothing_written

from blindspots.data.sources import digits
from blindspots.models.networks import build_network

DATA = "results/tiny/data.safetensors"
ODD = "a'b \"$(touch made) -x"


def pictures(folder, tests=None):
    """Write the digits as pictures of 15 times their grey in class folders."""
    data = digits.load()
    arrays = {"classes": np.array([f"digit {number}" for number in range(10)])}
    for base in ("train", "test"):
        chosen = slice(tests) if base == "test" else slice(200)
        arrays[f"{base}_images"] = data.images[base][chosen].transpose(0, 2, 3, 1) * 15
        arrays[f"{base}_labels"] = data.labels[base][chosen]
    sources.as_folder(arrays, folder)
    return arrays


def test_folder_of_pictures(fresh, monkeypatch):
    """Its name may hold any characters; neither place nor dates of the pictures count."""
    monkeypatch.setenv("BLINDSPOTS_DATA", str(fresh.path / "data"))
    arrays = pictures(fresh.path / ODD)
    fresh.edit_config(lambda c: c.update(dataset={"folder": ODD, "channels": 3}))
    fresh.make(DATA)
    tensors = load_file(fresh.path / DATA)
    order = np.argsort(arrays["test_labels"], kind="stable")
    wanted = np.repeat(arrays["test_images"][order].transpose(0, 3, 1, 2), 3, axis=1)
    assert np.array_equal(tensors["test_images"], wanted)
    assert not (fresh.path / "made").exists()
    os.utime(fresh.path / ODD / "train/digit 3")
    (fresh.path / "data").mkdir()
    shutil.move(fresh.path / ODD, fresh.path / "data" / ODD)
    assert fresh.planned(DATA) == set()
    next((fresh.path / "data" / ODD / "train/digit 3").iterdir()).unlink()
    assert fresh.planned(DATA) == {"prepare_data"}


def folder(change, **keys):
    def write(path):
        pictures(path / "mine", tests=100)
        change(path / "mine")
        return {"folder": "mine", **keys}

    return write


def function(code):
    def write(path):
        (path / "my_data.py").write_text(code)
        return "my_data:load"

    return write


def layout(path):
    (path / "data/cifar-10-batches-py").mkdir(parents=True)
    (path / "data/cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(print))
    return {"torchvision": "CIFAR10"}


MISTAKES = {
    "no folder": (lambda path: {"folder": "mien"}, "mien is missing; give the folder of the pict"),
    "empty class": (
        folder(lambda mine: (mine / "train/x").mkdir()),
        "mine/train/x holds no picture; put the class's there",
    ),
    "crop": (folder(lambda mine: None, crop=9), "8 high and 8 wide, less than the crop of 9 x 9"),
    "code in a file": (layout, "test_batch is a pickle that asks for builtins.print, which may"),
    "function that fails": (
        function("def load():\n    return 1 / 0\n"),
        "the function my_data:load failed: ZeroDivisionError: division by zero (line 2); correct",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_images_of_ones_own(fresh, monkeypatch, mistake):
    monkeypatch.setenv("BLINDSPOTS_DATA", str(fresh.path / "data"))
    write, said = MISTAKES[mistake]
    dataset = write(fresh.path)
    fresh.edit_config(lambda config: config.update(dataset=dataset))
    told_and_nothing_written(fresh, said, "--dry-run")


def test_study_on_a_test_set_alone(fresh):
    """With a network that was trained elsewhere; its models and parts for training are not run."""
    pictures(fresh.path / "mine", tests=200)
    shutil.rmtree(fresh.path / "mine/train")
    network = build_network({"kind": "softmax"}, (1, 8, 8), 10, seed=0)
    torch.save(network.state_dict(), fresh.path / "given.pt")

    def alone(config):
        config["dataset"] = {"folder": "mine"}
        config["models"]["given"] = {"architecture": "softmax", "weights": "given.pt"}
        config["experiments"]["pairs"]["sources"] = ["given"]
        config["figures"]["examples"]["distorted"]["source"] = "given"

    fresh.edit_config(alone)
    fresh.make()
    assert "given,given,0,0,few-random,as_found" in (fresh.results / "transfer.csv").read_text()
    assert load_file(fresh.results / "data.safetensors")["train_images"].shape == (0, 1, 8, 8)
    fresh.edit_config(lambda config: config["experiments"]["pairs"].update(sources=["A", "given"]))
    failed = fresh.snakemake("--dry-run")
    assert failed.returncode == 1 and "Traceback" not in failed.stdout
    assert "train model A 0 needs images of train, and mine has a test set alone" in failed.stdout
