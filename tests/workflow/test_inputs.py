"""A study on a user's own images and a network trained elsewhere: what counts is their content."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from blindspots.artifacts import read_header
from blindspots.data.sources import digits

MODEL = {"architecture": "mlp", "widths": [8], "weights": "b.pt"}


@pytest.fixture(scope="module")
def template_of_others(template, shared):
    """The digits as an archive of colour images, and a network with normalised images."""

    def make(path):
        shutil.copytree(template, path)
        data = digits.load()
        arrays = {f"{base}_labels": labels for base, labels in data.labels.items()}
        for base, images in data.images.items():
            grey = (images * 15).transpose(0, 2, 3, 1)
            arrays[f"{base}_images"] = np.concatenate([grey, grey // 2, 255 - grey], axis=3)
        names = np.array([f"digit {number}" for number in range(10)])
        np.savez_compressed(path / "colour.npz", classes=names, **arrays)
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 10)
        )
        torch.save(network.state_dict(), path / "b.pt")

    return shared("others", make)


@pytest.fixture
def others(template_of_others, tmp_path):
    from project import Project

    shutil.copytree(template_of_others, tmp_path / "project")
    project = Project(tmp_path / "project")

    def use(config):
        config["dataset"] = {"npz": "colour.npz"}
        config["models"]["own"] = {
            **MODEL,
            "normalize": {"mean": [0.5, 0.25, 0.5], "std": [0.5, 0.25, 0.5]},
        }
        config["experiments"]["pairs"] |= {"sources": ["A"], "victims": ["A", "own"]}
        config["figures"]["examples"] = {}
        config["tables"].pop("summary")
        del config["models"]["B"], config["models"]["C"]

    project.edit_config(use)
    return project


def test_own_images_and_weights(others, monkeypatch):
    monkeypatch.setenv("BLINDSPOTS_DATA", str(others.path / "data"))
    others.make()
    about = read_header(others.results / "data.safetensors")
    assert about["facts"]["shape"] == [3, 8, 8]
    assert about["facts"]["names"][:2] == ["digit 0", "digit 1"]
    assert about["spec"]["dataset"] == "npz" and "colour" not in json.dumps(about["spec"])
    made = load_file(others.results / "models/own/seed0.safetensors")
    given = torch.load(others.path / "b.pt", weights_only=True)
    assert all(torch.equal(made[f"network.{name}"], value) for name, value in given.items())
    cells = (others.results / "transfer.csv").read_text()
    assert "A,own,0,0,few-random,as_found" in cells

    # Neither place nor date of the files counts.
    (others.path / "data").mkdir()
    for file in ("colour.npz", "b.pt"):
        shutil.move(others.path / file, others.path / "data" / file)
    assert others.planned() == set()

    # Nor the form of the weights as a file would: another file is other content.
    save_file({k: v * 2 for k, v in given.items()}, others.path / "b.safetensors")
    others.edit_config(lambda config: config["models"]["own"].update(weights="b.safetensors"))
    jobs = others.planned()
    assert {job for job in jobs if job.startswith(("train", "generate", "prepare"))} == {
        "train_model own 0"
    }
    others.make("results/tiny/models/own/seed0.safetensors")


def test_mistakes_in_files_of_others(others):
    for change, said in (
        (
            lambda c: c["models"]["own"].update(weights="none.pt"),
            "none.pt is missing; put the weights there or correct the path",
        ),
        (
            lambda c: c.update(dataset={"npz": "b.pt"}),
            "b.pt holds no array train_images",
        ),
        (
            lambda c: c.update(dataset={"npy": "colour.npz"}),
            "dataset.npy is not a known key (did you mean npz?)",
        ),
        (
            lambda c: c["models"]["own"].update(shape=[3, 224, 224]),
            "experiments.pairs.victims: own takes images of shape (3, 224, 224)",
        ),
        (
            lambda c: c["models"]["own"]["normalize"].update(std=[1]),
            "models.own.normalize.std lists 1 numbers for 3 channels",
        ),
    ):
        before = others.config.read_text()
        others.edit_config(change)
        failed = others.snakemake("--dry-run")
        assert failed.returncode == 1 and said in failed.stdout, failed.stdout
        assert "Traceback" not in failed.stdout
        others.config.write_text(before)
    given = torch.load(others.path / "b.pt", weights_only=True)
    torch.save({name: value[:1] for name, value in given.items()}, others.path / "b.pt")
    failed = others.snakemake("results/tiny/models/own/seed0.safetensors")
    assert failed.returncode == 1 and "error: b.pt does not fit the network" in failed.stdout
    assert "Traceback" not in failed.stdout


def test_network_that_cannot_be_kept(others):
    """A buffer is of a type that artifacts do not hold: a sentence, not a traceback."""
    (others.path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "class Half(nn.Sequential):\n"
        "    def __init__(self, shape, classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(192, classes))\n"
        "        self.register_buffer('table', torch.zeros(3).bfloat16())\n"
    )
    weights = {
        "1.weight": torch.zeros(10, 192),
        "1.bias": torch.arange(10.0),
        "table": torch.zeros(3),
    }
    torch.save(weights, others.path / "half.pt")
    entry = {"architecture": "nets:Half", "weights": "half.pt"}
    others.edit_config(lambda config: config["models"].update(own=entry))
    failed = others.snakemake("results/tiny/models/own/seed0.safetensors")
    assert failed.returncode == 1 and "Traceback" not in failed.stdout
    assert "error: the network nets:Half failed: its table is torch.bfloat16" in failed.stdout
