"""What the README says is so: its commands are known and tried, its examples work."""

import re
import subprocess
from itertools import product
from textwrap import dedent

import pytest
import torch
import yaml
from PIL import Image
from project import ROOT
from safetensors.torch import save_file
from snakemake.utils import update_config
from torch import nn

from blindspots.study.study import Study

README = (ROOT / "README.md").read_text()
# Every command of the README, and where it is run.
COMMANDS = {
    "make run": "test_study.py",
    "make test": "what runs these tests",
    "make benchmark": "test_benchmarks.py, the script",
    "make plan": "test_study.py",
    "make plan STUDY=mnist": "test_study.py, with another study",
    "make bundle STUDY=digits": "test_reuse.py, with another study",
    "snakemake --workflow-profile profiles/slurm": "slurm/test_slurm.py",
    "make run STUDY=mnist": "test_mnist_study_is_planned",
    "make run STUDY=szegedy2013": "test_study_of_the_paper_is_planned",
    "make run STUDY=name": "test_unknown_study_is_told",
    "blindspots run mnist --cores 2": "test_command_run.py, with another study",
    "blindspots report mnist": "test_study.py, by make",
    "blindspots plan mnist": "test_command_run.py, with another study",
    "blindspots bundle mnist": "test_reuse.py, by make",
    "snakemake --cores 2": "project.py",
    "snakemake --unlock": "test_failures.py",
}


def test_every_command_is_tried():
    found = set(
        re.findall(r"(?:^|`)((?:make|snakemake|blindspots) [^`#\n]*[^`#\s])", README, re.MULTILINE)
    )
    assert found == set(COMMANDS)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_example_model_needs_only_its_name_in_an_experiment(fresh):
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])

    def add(config):
        config["models"] |= example["models"]
        config["experiments"]["pairs"]["sources"] += list(example["models"])

    fresh.edit_config(add)
    assert "generate_adversarial_set wide 0 few-random" in fresh.planned()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a user's network, weights and pictures, as the README names them."""
    code = """
        from torch import nn

        class Net(nn.Sequential):
            def __init__(self, shape, classes):
                size = shape[0] * shape[1] * shape[2]
                super().__init__(nn.Flatten(), nn.Linear(size, classes))
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))
    (tmp_path / "my_networks.py").write_text(dedent(code))
    save_file({"1.weight": torch.zeros(10, 784), "1.bias": torch.zeros(10)}, "mine.safetensors")
    for base, name in product(("train", "test"), ("cat", "dog")):
        folder = tmp_path / "pictures" / base / name
        folder.mkdir(parents=True)
        Image.new("RGB", (30, 20), name.replace("cat", "red").replace("dog", "blue")).save(
            folder / "0.png"
        )
    return tmp_path


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_ones_own_makes_a_study(config, schema, reference, here, place):
    section = README.partition("## Your own")[2].partition("\n## ")[0]
    blocks = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    change = yaml.safe_load(blocks[place])
    update_config(config, change)
    study = Study(config, schema, reference, [str(here)])
    made = {job.wildcards.get("model") for job in study.jobs if job.rule == "train_model"}
    assert set(change.get("models", {})) <= made
    if "dataset" in change:
        assert (study.facts.shape, study.facts.names) == ((3, 20, 30), ["cat", "dog"])
    row = study.job("evaluate_transfer", model="M1", attack="test-random", seed=0)
    if "seeds" in change:
        assert row.settings["victims"][:2] == ["M1/1", "M1/2"]
    if "models" in change:
        assert row.settings["victims"] == ["M1", "untrained", "mine", "svm"]


def test_the_library_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(20, 1, 4, 4)
    names = {"model": model, "images": images, "labels": model(images).argmax(1)}
    names |= {"a": model, "b": lambda images: model(images).sinh()}
    exec(code, names)  # the README is our own text
    assert names["result"].images.shape == images.shape
    assert names["matrix"].error.shape == (2, 2)


def test_mnist_study_is_planned(fresh):
    fresh.config.write_text((ROOT / "config.yaml").read_text())
    jobs = fresh.planned("all", "--configfile", "studies/mnist.yaml")
    assert {f"tabulate table{number}" for number in (1, 2, 3, 4)} <= jobs
    assert len([job for job in jobs if job.startswith("generate_adversarial_set")]) == 9


def test_study_of_the_paper_is_planned(fresh):
    """All of it, in a folder of its own."""
    fresh.config.write_text((ROOT / "config.yaml").read_text())
    plain = fresh.planned("all", "--configfile", "studies/mnist.yaml")
    jobs = fresh.planned("all", "--configfile", "studies/szegedy2013.yaml")
    assert jobs > plain and {job.split()[0] for job in jobs - plain} >= {
        "measure_frames",
        "tabulate_frames",
        "plot_frames",
    }


def test_unknown_study_is_told(fresh):
    command = ["make", "run", "STUDY=name"]
    done = subprocess.run(command, cwd=fresh.path, capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        "there is no studies/name.yaml; known studies: cifar10 digits inside-digits mnist"
        in done.stderr
    )
    assert not (fresh.path / ".venv").exists()
