"""What the README says is so: its commands are known and tried, its examples work."""

import re
import subprocess

import torch
import yaml
from project import ROOT
from torch import nn

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
    assert "there is no studies/name.yaml; known studies: digits mnist szegedy2013" in done.stderr
    assert not (fresh.path / ".venv").exists()
