"""Snakemake's records and the files come apart, profiles ask for other things, streams are closed.

What is said of a study holds all the same.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from project import Project, bundle

MODEL = "results/tiny/models/B/seed0.safetensors"
TABLE = "results/tiny/tables/summary.md"
SETTING = "B seed 0: training.weight_decay [0.0001] -> [0.001]"
NOISY = "results/tiny/figures/noise_examples/noisy.png"


def decay(config):
    config["models"]["B"]["weight_decay"] = 1.0e-3


def touch(project):
    """Tell Snakemake that all is up to date after an edit of the configuration."""
    project.edit_config(decay)
    return project.make("--touch")


def switch_off(project):
    """Edit the configuration under a profile that compares dates alone."""
    project.edit_config(decay)
    return profile(project, "rerun-triggers: mtime\n")


def replace(project):
    """Put the model of another study in the place of one, with the old one's date."""
    other = project.path / "results/tiny/models/C/seed0.safetensors"
    stat = (project.path / MODEL).stat()
    shutil.copy(other, project.path / MODEL)
    os.utime(project.path / MODEL, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return profile(project, "rerun-triggers: mtime\n")


def forget(project):
    """Edit the configuration after Snakemake's records were lost."""
    shutil.rmtree(project.path / ".snakemake/metadata")
    project.edit_config(decay)


def retouch(project):
    """Edit a table by hand."""
    path = project.path / TABLE
    path.write_text(path.read_text().replace("0", "1"))


def profile(project, text):
    """Give the user a profile, and return what makes snakemake read it."""
    folder = project.path / "profile"
    folder.mkdir(exist_ok=True)
    (folder / "profile.yaml").write_text(text)
    return {"SNAKEMAKE_PROFILE": str(folder)}


# What comes apart, what `make plan` says of it, and what it says to delete.
APART = {
    "triggers switched off": (switch_off, SETTING, MODEL),
    "records lost": (forget, SETTING, MODEL),
    "replaced": (replace, "B seed 0: split.share [0.5, 1.0] -> [0.0, 0.5]", MODEL),
    "edited by hand": (retouch, f"summary: {TABLE} was changed after it was made", TABLE),
}


@pytest.mark.parametrize("way", APART)
def test_records_and_files_apart(finished, way):
    """Told by the plan and by the end of a run; where the plan is followed, all is well."""
    apart, words, path = APART[way]
    environment = apart(finished) or {}
    plan = finished.plan(**environment)
    assert plan.startswith("Nothing will run; by Snakemake's records every artifact")
    assert words in plan and f"\n  rm {path}\n" in plan
    if way == "edited by hand":
        (finished.path / path).unlink()
        said = finished.make(**environment)
        assert "study tiny: 21 artifacts, all made from this configuration" in said


def test_a_study_of_others_is_not_handed_on(finished):
    """Neither as a report nor as a bundle; each run says so, one that has nothing to do, too."""
    told = "study tiny: 21 artifacts; 13 were made from another configuration: results/tiny/models"
    assert told in touch(finished)
    said = finished.make()
    assert "Nothing to be done" in said and told in said
    report = finished.snakemake("--report", "report.html")
    assert report.returncode == 1 and "Traceback" not in report.stdout
    assert f"Error: no report is made: {told}" in report.stdout
    assert not (finished.path / "report.html").exists()
    packed = bundle(finished)
    assert packed.returncode != 0 and f"error: {told}" in packed.stderr
    assert not list(finished.path.glob("results/*bundle*"))


PROFILES = {
    "quiet": "quiet: [rules]\n",
    "quiet about all": "quiet: all\n",
    "quiet without a word": "quiet: [rules, progress]\n",
    "much said": "verbose: true\nprintshellcmds: true\nshow-failed-logs: true\ndry-run: true\n",
    "a cluster that is not installed": "executor: nowhere\nkeep-going: true\nprintshellcmds: no\n",
}


@pytest.fixture(scope="module")
def labelled(finished_template, tmp_path_factory):
    """A finished study after an edit of a label."""
    path = tmp_path_factory.mktemp("labelled") / "project"
    shutil.copytree(finished_template, path)
    project = Project(path)
    project.edit_config(lambda c: c["models"]["B"].update(description="changed"))
    return project


PLAN = """2 jobs will run; all else is up to date.
tabulate (2)
  summary, transfer: descriptions.B "" -> "changed"
"""


@pytest.mark.parametrize("kind", PROFILES)
def test_plan_under_a_profile(labelled, kind):
    odd = {"COLUMNS": "10", "NO_COLOR": "1", "PYTHONWARNINGS": "always", "LC_ALL": "C"}
    assert labelled.plan(**profile(labelled, PROFILES[kind]), **odd) == PLAN


def test_configuration_in_a_profile_counts_for_the_plan(labelled):
    plan = labelled.plan(**profile(labelled, "config: [chunk=50]\n"))
    assert "attack.chunk" not in plan and "chunk 100 -> 50" in plan


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("quiet: [rules\n", "error: snakemake cannot plan the study: Couldn't parse config file"),
        ("summary: true\n", "error: snakemake planned nothing, but did something else"),
    ],
)
def test_profile_that_allows_no_plan(labelled, text, sentence):
    environment = {**os.environ, "PYTHONPATH": "src", **profile(labelled, text)}
    command = [sys.executable, "-m", "blindspots.study.explain"]
    done = subprocess.run(
        command, cwd=labelled.path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(sentence) and "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-", "2>&1 | head -n 1"])
def test_run_with_closed_streams(finished, streams):
    """It ends, the job has run, and its log holds no traceback."""
    (finished.path / NOISY).unlink()
    command = f'"$0" -m snakemake --cores 2 {streams}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=finished.path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr
    assert (finished.path / NOISY).exists()
    assert "Traceback" not in (finished.results / "logs/plot_noise_examples/noisy.log").read_text()


def test_one_line_a_job(finished):
    """All else is in the log file; a dry run shows it, and of the inputs of rule all a few."""
    (finished.path / NOISY).unlink()
    said = finished.make("--nocolor")
    lines = [line for line in said.splitlines() if not line.startswith(("Using", "Elapsed"))]
    assert lines[0] == "study tiny: 1 job (1 plot noise examples)"
    assert re.fullmatch(r"\[1/1\] plot noise examples noisy: \d+ s", lines[1])
    assert lines[2] == "study tiny: 21 artifacts, all made from this configuration"
    assert lines[3].startswith("Complete log(s): ") and len(lines) == 4
    log = max((finished.path / ".snakemake/log").iterdir(), key=os.path.getmtime).read_text()
    assert "localrule plot_noise_examples:" in log and len(log) < 4000
    (finished.path / NOISY).unlink()
    said = finished.make("--dry-run", "--forcerun", "all")
    assert "rule plot_noise_examples:" in said and said.count("and 31 more") == 1
