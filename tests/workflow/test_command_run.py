"""The command `blindspots` in a checkout: what it starts, and the exit code that it passes on.

Reports, bundles and plans of the command are those of make (test_report.py, test_reuse.py,
test_study.py), which calls it.
"""

import os
import shutil
import subprocess
import sys

from project import ROOT


def blindspots(project, *arguments, path="src"):
    """Run the command in a project that has the tiny study."""
    (project.path / "studies/tiny.yaml").write_text("study: tiny\n")
    return subprocess.run(
        [sys.executable, "-m", "blindspots", *arguments],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_run_makes_what_is_asked_for(fresh):
    """Behind the study come arguments of Snakemake."""
    output = "results/tiny/data.safetensors"
    done = blindspots(fresh, "run", "tiny", "--cores", "1", output)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (fresh.path / output).exists()
    assert not (fresh.results / "models").exists()


def test_run_passes_on_how_snakemake_ended(fresh):
    fresh.edit_config(lambda c: c["models"]["A"].update(split="trian"))
    done = blindspots(fresh, "run", "tiny", "--dry-run")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "there is no split 'trian' (did you mean train?)" in said
    assert "Traceback" not in said


def test_code_is_that_of_the_checkout(fresh, tmp_path):
    """Wherever the command itself is installed: there with nothing but what it needs."""
    installed = tmp_path / "installed/blindspots"
    installed.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "errors.py", "escapes.py"):
        shutil.copy(ROOT / "src/blindspots" / name, installed)
    done = blindspots(fresh, "plan", "tiny", path=str(installed.parent))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("21 jobs will run")
