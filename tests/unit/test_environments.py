"""The pinned environments agree with one another and with the project's own list."""

import tomllib

import yaml


def pins(lines):
    found = dict(line.strip().split("==") for line in lines if "==" in line)
    return {name.lower(): version for name, version in found.items()}


def test_conda_environment_has_the_pinned_versions(root):
    constraints = pins((root / "envs/constraints.txt").read_text().splitlines())
    environment = yaml.safe_load((root / "envs/blindspots.yaml").read_text())
    chosen = pins(environment["dependencies"][-1]["pip"])
    assert chosen.items() <= constraints.items()
    assert {"torch", "numpy", "safetensors", "seaborn"} <= set(chosen)


def test_every_requirement_is_pinned_and_declared(root):
    lines = (root / "envs/requirements.txt").read_text().splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    constraints = pins((root / "envs/constraints.txt").read_text().splitlines())
    assert wanted <= set(constraints)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {name.split(">")[0] for name in declared} == wanted


def test_extra_of_slurm_is_pinned_and_declared(root):
    lines = (root / "envs/slurm.txt").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert set(wanted) <= set(pins((root / "envs/constraints.txt").read_text().splitlines()))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["slurm"] == wanted
