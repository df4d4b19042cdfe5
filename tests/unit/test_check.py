"""Artifacts are compared with the study by their own digests."""

import shutil

import numpy as np
import pytest
import yaml

from blindspots.artifacts import write_record, write_sidecar, write_tensors
from blindspots.study.check import check, in_a_line
from blindspots.study.dry_run import DryRun, PlannedJob
from blindspots.study.explain import first_of, in_words, strays
from blindspots.study.study import Study

MODEL = "models/A/seed0.safetensors"
FILES = (MODEL, "rows/A/seed0/few-random.json", "engines.csv", "engines.html", "engines.csv.json")


@pytest.fixture
def studies(root, schema, reference):
    """A function that returns the tiny study after a change of its configuration."""
    text = (root / "tests/workflow/tiny.yaml").read_text()

    def study(change=lambda config: None):
        config = yaml.safe_load(text)
        change(config)
        return Study(config, schema, reference, [])

    return study


@pytest.fixture
def folder(studies, tmp_path):
    """A folder with artifacts of the tiny study that say of themselves what true ones would."""
    study = studies()
    for job in study.jobs:
        paths = [tmp_path / path for path in job.paths]
        told = {"job": job.digest, "spec": yaml.safe_load(job.spec), "code": job.code}
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        if paths[0].suffix == ".safetensors":
            write_tensors(paths[0], {"x": np.zeros(100)}, told)
        elif paths[0].suffix == ".json":
            write_record(paths[0], told)
        else:
            for path in paths:
                path.write_text("text\n")
            write_sidecar(paths, told)
    return tmp_path


def states(artifacts):
    """Return the artifacts that are not whole, by state."""
    return {
        (artifact.state, artifact.path.name) for artifact in artifacts if artifact.state != "whole"
    }


def test_all_is_of_the_study(studies, folder):
    found = check(studies(), folder)
    assert len(found) == 21 and states(found) == set()
    assert in_a_line(studies(), found) == (
        "study tiny: 21 artifacts, all made from this configuration"
    )


@pytest.mark.parametrize("name", FILES)
def test_missing_and_damaged_files_are_told(studies, folder, name):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    found = check(studies(), folder)
    assert states(found) == {("damaged", path.name)}
    assert in_a_line(studies(), found) == (
        f"study tiny: 21 artifacts; 1 was damaged or changed since: {path}; "
        "`make plan` says what to do"
    )
    path.unlink()
    found = check(studies(), folder)
    assert states(found) == {("missing", path.name)}
    assert in_a_line(studies(), found).startswith("study tiny: 20 of 21 artifacts are there, all")


def test_tensors_are_not_read_where_time_is_short(studies, folder):
    path = folder / MODEL
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert states(check(studies(), folder, tensors=False)) == set()


def test_a_file_that_cannot_be_read_is_told(studies, folder):
    (folder / "engines.html").unlink()
    (folder / "engines.html").mkdir()
    assert states(check(studies(), folder)) == {("damaged", "engines.csv.json")}


def test_other_settings_are_told_and_what_to_do(studies, folder):
    """Only what others are made from need be deleted; what will run anyway is not told."""
    study = studies(lambda config: config["models"]["A"].update(weight_decay=1.0e-2))
    found = check(study, folder)
    assert {state for state, _ in states(found)} == {"foreign"}
    foreign = [artifact for artifact in found if artifact.stray]
    assert [artifact.path for artifact in first_of(foreign)] == [folder / MODEL]
    run = DryRun([], study, folder)
    lines = in_words(run, [], strays(run)).splitlines()
    assert lines[0] == (
        "Nothing will run; by Snakemake's records every artifact of the study is up to date, "
        "but not in truth."
    )
    assert lines[2:4] == [
        "train model (1)",
        "  A seed 0: training.weight_decay [0.001] -> [0.01]",
    ]
    assert lines[-2:] == [f"  rm {folder / MODEL}", "and run again."]
    planned = [PlannedJob("r", {}, [artifact.path], {}, "", "") for artifact in foreign]
    assert strays(DryRun(planned, study, folder)) == []


def test_artifact_of_another_model(studies, folder):
    """Whole in itself, and in the wrong place."""
    shutil.copy(folder / "models/C/seed0.safetensors", folder / MODEL)
    run = DryRun([], studies(), folder)
    assert states(check(run.study, folder)) == {("foreign", "seed0.safetensors")}
    assert 'architecture.kind "mlp" -> "softmax"' in in_words(run, [], strays(run))


def test_a_file_of_something_else(studies, folder):
    """One that carries a digest and nothing that this project knows."""
    write_record(folder / "rows/A/seed0/few-random.json", {"spec": 5})
    run = DryRun([], studies(), folder)
    assert "A seed 0 few-random: made by something else" in in_words(run, [], strays(run))
