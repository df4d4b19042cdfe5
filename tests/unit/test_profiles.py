"""The profiles agree with one another and with the rules."""

import re

import pytest
import yaml

from blindspots.study.rules import needs
from blindspots.study.study import RULES


@pytest.fixture
def profile(root):
    """Return the function from a profile's name to its settings."""
    return lambda name: yaml.safe_load((root / f"profiles/{name}/profile.yaml").read_text())


def test_slurm_profile_repeats_the_default_one(profile):
    """Snakemake reads one of the two; what only counts GPUs of this machine is not repeated."""
    default = profile("default")
    del default["resources"]
    assert default.items() <= profile("slurm").items()


def test_every_attempt_gets_more_time_and_memory():
    asked = needs(1000, 10, gpu=1)
    assert asked["gpu"] == 1
    for attempt in (1, 2, 3):
        assert asked["runtime"](None, attempt) == 10 * attempt
        assert asked["mem_mb"](None, attempt) == 1000 * attempt


def test_what_is_set_on_slurm_is_of_rules(profile):
    slurm = profile("slurm")
    assert set(slurm["groups"]) | set(slurm["set-resources"]) <= set(RULES)
    assert set(slurm["groups"].values()) == set(slurm["group-components"])


def test_slurm_knows_where_jobs_with_a_gpu_go(profile, root):
    """To a partition that has GPUs, or without one: a job that asks for what is not there waits."""
    known, asking = profile("slurm")["set-resources"], set()
    for path in (*root.glob("workflow/rules/*.smk"), *root.glob("src/**/rules.smk")):
        for name, body in re.findall(
            r"^use rule \w+ as (\w+) with:(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S
        ):
            if "gpu=gpus" in body:
                asking.add(name)
    assert {"train_model", "measure_storage"} <= asking
    missing = {
        r
        for r in asking
        if "gpu" not in (known.get(r, {}).get("slurm_partition"), *known.get(r, {}))
    }
    assert not missing
