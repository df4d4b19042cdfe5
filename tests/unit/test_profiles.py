"""The profiles agree with one another and with the rules."""

import re

import pytest
import yaml


@pytest.fixture
def profile(root):
    """Return the function from a profile's name to its settings."""
    return lambda name: yaml.safe_load((root / f"profiles/{name}/profile.yaml").read_text())


@pytest.fixture
def runtimes(root):
    """The minutes that each rule asks for."""
    text = "".join(path.read_text() for path in (root / "workflow/rules").glob("*.smk"))
    return dict(re.findall(r"^rule (\w+):.*?runtime=(\d+)", text, re.DOTALL | re.MULTILINE))


def test_slurm_profile_repeats_the_default_one(profile):
    """Snakemake reads one of the two; what only counts GPUs of this machine is not repeated."""
    default = profile("default")
    del default["resources"]
    assert default.items() <= profile("slurm").items()


def test_on_slurm_every_rule_gets_more_time_with_every_attempt(profile, runtimes):
    asked = {rule: of["runtime"] for rule, of in profile("slurm")["set-resources"].items()}
    assert asked == {rule: f"{minutes} * attempt" for rule, minutes in runtimes.items()}


def test_groups_on_slurm_are_of_rules(profile, runtimes):
    slurm = profile("slurm")
    assert set(slurm["groups"]) <= set(runtimes)
    assert set(slurm["groups"].values()) == set(slurm["group-components"])
