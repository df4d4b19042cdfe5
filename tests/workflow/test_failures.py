"""A run that fails or is killed loses nothing and leaves nothing stale."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from project import Project

# Injected into every Python process through PYTHONPATH: makes each of some steps fail once.
SABOTAGE = """
import os, signal, sys
steps, how, folder = os.environ.get("SABOTAGE", "::").split(":")
modules = {"prepare_data": "data.sources.digits"}
for name in ("train_model", "generate_adversarial_set", "check_engines"):
    modules[name] = f"steps.{name}"
def module_of(step):
    return f"blindspots.{modules.get(step, f'experiments.transfer.{step}')}"
spared = "results/tiny/tables/summary.csv" in sys.orig_argv  # of two tables the other one fails
if step := next((s for s in steps.split() if module_of(s) in sys.orig_argv and not spared), None):
    flag = os.path.join(folder, f"{step} {how}")
    def once():
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
            return True
        except FileExistsError:
            return False
    if how == "exit" and once():
        sys.stderr.write("sabotaged")
        os._exit(1)
    if how == "kill":
        replace = os.replace
        def deadly(source, target):
            if "cells" not in str(target) and once():
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
        os.replace = deadly
    if how == "checkpoint":
        saved, replace = [], os.replace
        def deadly(source, target):
            replace(source, target)
            saved.append(str(target).endswith(".checkpoint"))
            if any(saved) and once():
                os.kill(os.getpid(), signal.SIGKILL)
        os.replace = deadly
"""
ROW = "rows/B/seed0/few-random.json"
# Each stage in order, and what to remove so that it must run: one of its outputs and, where an
# earlier failure may have let this be made already, the file that is made from it.
STAGES = {
    "prepare_data": ["data.safetensors"],
    "train_model": ["models/B/seed0.safetensors"],
    "evaluate_noise": ["rows/noise/seed0/few.json"],
    "generate_adversarial_set": ["adversarial/B/seed0/few-random.safetensors", ROW],
    "evaluate_transfer": [ROW],
    "collect_transfer": ["transfer.csv"],
    "tabulate": ["tables/transfer.csv"],
}
# Those that nothing follows from.
LEAVES = {
    "check_engines": "engines.csv",
    "plot_transfer": "figures/transfer/pairs.svg",
    "plot_error_curves": "figures/error_curves/pairs.svg",
    "plot_distortions": "figures/distortions/pairs.svg",
    "plot_adversarial_examples": "figures/adversarial_examples/distorted.png",
    "plot_noise_examples": "figures/noise_examples/noisy.png",
}


@pytest.fixture
def sabotage(tmp_path):
    folder = tmp_path / "sabotage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SABOTAGE)

    def environment(steps, how):
        return {"PYTHONPATH": str(folder), "SABOTAGE": f"{steps}:{how}:{folder}"}

    return environment


def edit(config):
    """Change something that reaches every stage."""
    config["models"]["B"]["weight_decay"] = 1.0e-2
    config["splits"]["seed"] = 1
    config["models"]["B"]["label"] = "Bee"


@pytest.fixture(scope="module")
def clean_run(template, tmp_path_factory):
    """The results of the edited study, run without disturbance."""
    path = tmp_path_factory.mktemp("clean") / "project"
    shutil.copytree(template, path)
    project = Project(path)
    project.edit_config(edit)
    project.make()
    return project.contents()


def test_each_stage_fails_after_an_edit(finished, sabotage, clean_run):
    """Whatever stage failed, everything behind it is made, and ends with a clean run's bytes."""
    finished.edit_config(edit)
    table = "results/tiny/tables/transfer.csv"
    for step, outputs in STAGES.items():
        # The edit does not reach the data; other jobs may be done since an earlier failure.
        for output in outputs:
            (finished.results / output).unlink(missing_ok=True)
        # What failed last time is made when one table alone is asked for, up to this stage.
        for how, target in (("kill", [table]), ("exit", [])):
            failed = finished.snakemake(*target, **sabotage(step, how))
            assert failed.returncode != 0, f"{step} was not run:\n{failed.stdout[-3000:]}"
            planned = finished.planned(*target)
            assert any(job.startswith(step) for job in planned), f"{step} is forgotten"
            assert "tabulate transfer" in planned
    finished.make(table)  # all that this table needs, and nothing stale
    assert finished.contents()["tables/transfer.csv"] == clean_run["tables/transfer.csv"]
    for output in LEAVES.values():
        (finished.results / output).unlink(missing_ok=True)
    for how in ("exit", "kill"):
        failed = finished.snakemake("--keep-going", **sabotage(" ".join(LEAVES), how))
        assert failed.returncode != 0
        assert {job.split()[0] for job in finished.planned()} == set(LEAVES)
    finished.make()
    assert finished.contents() == clean_run


def test_interrupted_runs_finish(fresh, finished_template):
    """Ctrl-C in the middle, then all processes killed, then a run to the end: the same bytes.

    All steps are processes of their own here, and forks in the run that they are compared with.
    """
    wanted = Project(finished_template).contents(but=("logs",))
    for number, progress in ((signal.SIGINT, 3), (signal.SIGKILL, 8)):
        with open(fresh.path / "out.txt", "w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--cores", "2"],
                cwd=fresh.path,
                stdout=out,
                stderr=out,
                start_new_session=True,
                # What a shell runs in the background ignores SIGINT, and so would its children.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            wait_for_logs(fresh.results / "logs", progress, process)
            stop(process, number)
        assert process.returncode != 0
        assert not (fresh.results / "tables/transfer.csv").exists()  # it was in the middle
    fresh.make("--unlock")
    fresh.make(real_steps=True)
    assert fresh.contents(but=("logs",)) == wanted


def stop(process, number):
    """Send a signal to the whole group; again when nothing has come of it, as one would."""
    while process.poll() is None:
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)


def wait_for_logs(folder, count, process):
    """Wait until so many jobs have begun, while the process runs."""
    while process.poll() is None and len(list(folder.rglob("*.log"))) < count:
        time.sleep(0.05)


@pytest.mark.parametrize("step", ["train_model", "generate_adversarial_set"])
def test_killed_job_goes_on_from_its_checkpoint(finished, sabotage, step):
    """Not from the beginning, and with the same bytes in the end."""
    wanted = finished.contents()
    for path in STAGES[step]:
        (finished.results / path).unlink(missing_ok=True)
    always = {"BLINDSPOTS_CHECKPOINT_SECONDS": "0"}
    killed = finished.snakemake(**sabotage(step, "checkpoint"), **always)
    assert killed.returncode != 0
    left = [path.name for path in finished.results.rglob(".*.checkpoint")]
    assert len(left) == 1
    finished.make()
    (log,) = [p for p in (finished.results / "logs" / step).glob("B-*")]
    assert "going on from" in log.read_text()
    assert finished.contents() == wanted  # without the checkpoint


def test_a_damaged_artifact_is_named_and_not_used(finished):
    model = finished.results / "models/A/seed0.safetensors"
    content = bytearray(model.read_bytes())
    content[-10] ^= 1
    model.write_bytes(content)
    (finished.results / "adversarial/A/seed0/few-random.safetensors").unlink()
    failed = finished.snakemake("--rerun-triggers", "params")
    assert failed.returncode == 1
    assert "models/A/seed0.safetensors does not match its own digest" in failed.stdout
    assert "Traceback" not in failed.stdout


def test_foreign_results_are_refused(finished):
    """An artifact of another configuration under the right name is not used."""
    models = finished.results / "models"
    (models / "B/seed0.safetensors").write_bytes((models / "C/seed0.safetensors").read_bytes())
    (finished.results / "adversarial/B/seed0/few-random.safetensors").unlink()
    failed = finished.snakemake("--rerun-triggers", "params")
    assert failed.returncode == 1
    assert "was made by another configuration" in failed.stdout
