"""The studies in colour and of photographs, on a few real images and with little training."""

import csv
import os
from pathlib import Path
from shutil import copy

import pytest
import yaml
from project import ROOT, Project

FEW = 4


@pytest.fixture
def data():
    """The data root, which holds images that are not part of the project."""
    root = os.environ.get("BLINDSPOTS_DATA")
    if not root:
        pytest.skip("BLINDSPOTS_DATA names no data root")
    return Path(root).resolve()


@pytest.fixture
def study(fresh):
    """Return the function from a study's name and a change of it to its project."""
    fresh.config.write_text((ROOT / "config.yaml").read_text())

    def changed(name, change):
        path = fresh.path / f"studies/{name}.yaml"
        entries = yaml.safe_load(path.read_text())
        change(entries)
        path.write_text(yaml.safe_dump({**entries, "threads": dict.fromkeys(STAGES, 1)}))
        return Project(fresh.path, name)

    return changed


STAGES = ("train", "attack", "evaluate")


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def own_cells(project):
    """Return the cells in which sources see their own images as found."""
    rows = rows_of(project.results / "transfer.csv")
    return [r for r in rows if r["source"] == r["victim"] and r["variant"] == "as_found"]


def test_colour(study, data):
    if not (data / "cifar10-subset.npz").is_file():
        pytest.skip("the data root holds no cifar10-subset.npz")

    def little(entries):
        entries["splits"]["parts"] = {
            "few": {"of": "test", "range": [0, 40]},
            "some": {"of": "train", "range": [0, 600]},
        }
        for model in entries["models"].values():
            model["split"] = "some"
        entries["models"]["colour"]["training"] |= {"epochs": 8}
        entries["models"]["forest"]["options"] = {"n_estimators": 5}

    project = study("cifar10", little)
    project.make("--configfile", "studies/cifar10.yaml", BLINDSPOTS_DATA=str(data))
    cells = own_cells(project)
    assert {cell["source"] for cell in cells} == {"colour", "linear"}
    for cell in cells:
        assert int(cell["n_fooled"]) == int(cell["n_attacked"]) - int(cell["n_failed"]) > 0
    grid = project.results / "figures/adversarial_examples/colour_stored.png"
    assert grid.stat().st_size > 10_000
    assert (project.results / "frames/colour_frames.csv").exists()


def test_photographs(study, data, tmp_path):
    given = data / "imagenet-mini"
    if not given.is_dir():
        pytest.skip("the data root holds no imagenet-mini")
    folder = tmp_path / "root/imagenet-mini"
    (folder / "images").mkdir(parents=True)
    for name in ("tiny-darknet.pt", "squeezenet1_0.safetensors"):
        copy(given / name, folder)
    header, *lines = (given / "labels.csv").read_text().splitlines()
    for line in lines[:FEW]:
        copy(given / line.partition(",")[0], folder / "images")
    (folder / "labels.csv").write_text("\n".join([header, *lines[:FEW]]))

    def little(entries):
        entries["attacks"]["photographs"]["options"]["steps"] = 3
        entries["run"] = ["across_networks"]
        entries["experiments"]["across_networks"] |= {"amplify": [0.02], "noise": [0.02]}

    project = study("photographs", little)
    project.make("--configfile", "studies/photographs.yaml", BLINDSPOTS_DATA=str(folder.parent))
    cells = own_cells(project)
    assert {cell["source"] for cell in cells} == {"darknet", "squeezenet"}
    for cell in cells:
        assert 0 < int(cell["n_attacked"]) <= FEW
        assert int(cell["n_fooled"]) == int(cell["n_attacked"]) - int(cell["n_failed"])
    rows = rows_of(project.results / "transfer.csv")
    assert {r["n_attacked"] for r in rows if r["variant"] == "clean"} == {str(FEW)}
