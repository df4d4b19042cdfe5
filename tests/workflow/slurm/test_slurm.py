"""A study on a real Slurm: where jobs go, what is tried again, and after a killed snakemake."""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from cluster import UnavailableError, running_cluster
from project import ROOT, Project, left_out

RUN_ID = re.compile("SLURM run ID: (.*)")
# Injected into every Python process through PYTHONPATH: the training of some models hangs, once,
# until there is a file "go", and leaves a file that says which GPU it was given.
HANG = """
import os, sys, time
from pathlib import Path
words, flags = sys.orig_argv, Path(os.environ["HANG_FLAGS"])
if "blindspots.steps.train_model" in words:
    model = Path(words[words.index("--to") + 1]).parent.name
    if model in os.environ["HANG"]:
        try:
            with open(flags / model, "x") as flag:
                flag.write(os.environ["CUDA_VISIBLE_DEVICES"])
        except FileExistsError:
            pass
        else:
            while not (flags / "go").exists():
                time.sleep(0.1)
"""


@pytest.fixture(scope="session")
def cluster():
    try:
        with running_cluster() as cluster:
            yield cluster
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def hang(tmp_path):
    """Return the environment in which the first training of each of some models hangs."""
    (tmp_path / "sitecustomize.py").write_text(HANG)

    def environment(models):
        return {"PYTHONPATH": str(tmp_path), "HANG": models, "HANG_FLAGS": str(tmp_path)}

    return environment


@pytest.fixture
def start(cluster):
    """Return the function that starts a `Run`; none outlives the test."""
    with contextlib.ExitStack() as runs:

        def start(project, *arguments, **environment):
            run = Run(project, cluster, *arguments, **environment)
            runs.callback(run.kill)
            return run

        yield start


class Run:
    """A snakemake in the background whose jobs go to the cluster."""

    def __init__(self, project, cluster, *arguments, **environment):
        self.cluster = cluster
        with tempfile.NamedTemporaryFile("w", dir=project.path, delete=False) as output:
            self.output = Path(output.name)
            command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm"]
            command += ["--slurm-init-seconds-before-status-checks", "1", *arguments]
            self.process = subprocess.Popen(
                command,
                cwd=project.path,
                env={**cluster.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # What a shell runs in the background ignores SIGINT, and so would its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def jobs(self):
        """Return Slurm's records of this run's jobs, oldest first."""
        found = RUN_ID.search(self.output.read_text())
        return self.cluster.jobs(found[1]) if found else []

    def trainings(self, state):
        """Return the records of the trainings in a state, by model."""
        return {
            job["Comment"].split("_")[-2]: job
            for job in self.jobs()
            if "train_model" in job["Comment"] and job["JobState"] == state
        }

    def kill(self):
        """End snakemake, if it runs, the hard way: its jobs go on."""
        self.process.kill()
        self.process.wait()

    def wait_until(self, condition):
        """Wait until a condition holds, which must be before the end."""
        while not condition():
            assert self.process.poll() is None, self.output.read_text()[-6000:]
            time.sleep(0.2)

    def finish(self):
        """Wait for the end, which must be a good one."""
        assert self.process.wait(timeout=900) == 0, self.output.read_text()[-6000:]


def test_digits_study(start, tmp_path):
    """Training and attacks get a GPU each, all else none; small jobs share submissions."""
    shutil.copytree(ROOT, tmp_path / "project", ignore=left_out)
    project = Project(tmp_path / "project")
    study = ["--configfile", "studies/digits.yaml"]
    run = start(project, *study)
    run.finish()
    placed = Counter()
    for job in run.jobs():
        what = re.match("rule_(rows|summary|.*?(?=_wildcards|$))", job["Comment"])[1]
        placed[what, job["JobState"], job["Partition"], job["JOB_GRES"]] += 1
    assert placed == {
        ("prepare_data", "COMPLETED", "cpu", "(null)"): 1,
        ("train_model", "COMPLETED", "gpu", "gpu:1"): 9,
        ("generate_adversarial_set", "COMPLETED", "gpu", "gpu:1"): 9,
        ("check_engines", "COMPLETED", "cpu", "(null)"): 1,
        ("rows", "COMPLETED", "cpu", "(null)"): 1,
        ("summary", "COMPLETED", "cpu", "(null)"): 1,
    }
    assert "Nothing to be done" in project.make(*study)


def forget(project, *models):
    """Remove trained models of a finished study, so that they and what follows are made anew."""
    for model in models:
        (project.results / f"models/{model}/seed0.safetensors").unlink()


def test_cancelled_and_timed_out_jobs_get_more_time(cluster, start, finished, hang, tmp_path):
    wanted = finished.contents()
    forget(finished, "B", "C")
    partition = "  train_model:\n    slurm_partition: gpu\n"
    finished.edit("profiles/slurm/profile.yaml", partition, f"{partition}    runtime: attempt\n")
    run = start(finished, **hang("BC"))
    run.wait_until(lambda: (tmp_path / "B").exists() and (tmp_path / "C").exists())
    cluster.command("scancel", run.trainings("RUNNING")["C"]["JobId"])
    run.finish()
    limits = {
        state: {model: job["TimeLimit"] for model, job in run.trainings(state).items()}
        for state in ("COMPLETED", "CANCELLED", "TIMEOUT")
    }
    assert limits == {
        "COMPLETED": {"B": "00:02:00", "C": "00:02:00"},
        "CANCELLED": {"C": "00:01:00"},
        "TIMEOUT": {"B": "00:01:00"},
    }
    # They ran at the same time.
    assert {(tmp_path / model).read_text() for model in "BC"} == {"0", "1"}
    assert finished.contents() == wanted


@pytest.mark.parametrize(
    ("sent", "fate"), [(signal.SIGINT, "CANCELLED"), (signal.SIGTERM, "COMPLETED")]
)
def test_interrupted_snakemake(start, finished, hang, tmp_path, sent, fate):
    """Ctrl-C cancels the jobs, SIGTERM waits for them; either way the same command goes on."""
    wanted = finished.contents()
    forget(finished, "B")
    stopped = start(finished, **hang("B"))
    stopped.wait_until(lambda: (tmp_path / "B").exists())
    stopped.process.send_signal(sent)
    if fate == "COMPLETED":
        (tmp_path / "go").touch()
    assert stopped.process.wait(timeout=300) == 1
    # Between its end and its last state a job is COMPLETING, for long on a busy machine.
    while any(job["JobState"] == "COMPLETING" for job in stopped.jobs()):
        time.sleep(0.2)
    assert [job["JobState"] for job in stopped.jobs()] == [fate]
    again = start(finished)
    again.finish()
    assert len(again.trainings("COMPLETED")) == (fate == "CANCELLED")
    assert finished.contents() == wanted


def test_killed_snakemake(cluster, start, finished, hang, tmp_path):
    """What docs/operations.md says to do then ends with the results of an undisturbed run."""
    wanted = finished.contents()
    forget(finished, "B")
    killed = start(finished, **hang("B"))
    killed.wait_until(lambda: (tmp_path / "B").exists())
    killed.kill()
    assert killed.trainings("RUNNING").keys() == {"B"}
    [cancel] = re.findall("scancel .*", (ROOT / "docs/operations.md").read_text())
    environment = cluster.environment
    subprocess.run(cancel, shell=True, cwd=finished.path, env=environment, check=True)
    finished.make("--unlock")
    again = start(finished)
    again.finish()
    assert [job["JobState"] for job in killed.jobs()] == ["CANCELLED"]
    assert [job["JobState"] for job in again.jobs()] == ["COMPLETED"] * 4
    assert again.trainings("COMPLETED").keys() == {"B"}
    assert finished.contents() == wanted
