"""A copy of the project in a folder of its own, and what tests do to it."""

import atexit
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from shutil import which

import yaml
from forkserver import ForkServer

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {"results", ".snakemake", ".venv", ".git", "data"}


# What Snakemake and its report import, and `make plan`.
OF_PLANS = ("snakemake.cli", "snakemake.report.html_reporter", "smart_open", "jsonschema")
# What steps import. Torch comes first, so that it meets the same libraries as without the others;
# torch itself would load its compiler when it is made deterministic.
OF_STEPS = (
    *("torch", "torch._inductor.config", "safetensors.torch", "safetensors.numpy", "seaborn"),
    *("matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg", "fontTools.subset"),
    *("sklearn.datasets", "tabulate"),
)
# Snakemake tells every job of one thread so; libraries read it while they are loaded.
ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
    ),
    "1",
)


@cache
def plans():
    """Return the server that forks for each run of snakemake and for each plan."""
    return started(ForkServer(*OF_PLANS))


@cache
def steps():
    """Return the server that forks for each step of one thread."""
    return started(ForkServer(*OF_STEPS, **ONE_THREAD))


def started(server):
    """Return a server that ends with this process."""
    atexit.register(server.close)
    return server


def left_out(folder, names):
    """Tell copytree what not to copy: outputs and environments at the top, caches anywhere."""
    top = LEFT_OUT if Path(folder) == ROOT else set()
    return [name for name in names if name in top or name.endswith(("__pycache__", "_cache"))]


def jobs_of(dry_run):
    """Return the jobs that a dry run lists, as ``rule wildcard wildcard ...``."""
    jobs = set()
    for block in re.split(r"\n(?=(?:local)?rule )", dry_run)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        wildcards = re.search(r"\n    wildcards: (.*)", block)
        values = re.findall(r"=([^,\n]+)", wildcards[1]) if wildcards else []
        jobs.add(" ".join([rule, *values]))
    return jobs - {"all"}


def jobs_in(plan):
    """Return the jobs that `make plan` lists, as ``rule wildcard wildcard ...``."""
    jobs, rule, unnamed = set(), None, ("prepare_data", "check_engines", "collect_transfer")
    for line in plan.partition("\nNo longer part")[0].splitlines()[1:]:
        if heading := re.fullmatch(r"(\w[\w ]*) \(\d+\)", line):
            rule = heading[1].replace(" ", "_")
            continue
        names = [""] if rule in unnamed else line.strip().partition(": ")[0].split(", ")
        jobs |= {f"{rule} {name.replace('seed ', '')}".strip() for name in names}
    return jobs


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, path, study="tiny"):
        self.path = path
        self.config = path / "config.yaml"
        self.results = path / "results" / study

    def snakemake(self, *arguments, cores=2, real_steps=False, **environment):
        """Run snakemake and return the finished process; its steps are forks unless told."""
        command = ["--cores", str(cores), *map(str, arguments)]
        env = {**os.environ, **environment}
        # CUDA that a library has touched does not survive a fork.
        python = None if real_steps or which("nvidia-smi") else steps().python
        with tempfile.TemporaryFile("w+") as output:
            code = plans().run("snakemake", command, self.path, env, output, output, python)
            output.seek(0)
            return subprocess.CompletedProcess(command, code, output.read())

    def make(self, *arguments, **environment):
        """Run snakemake, which must succeed, and return what it printed."""
        done = self.snakemake(*arguments, **environment)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def planned(self, *arguments):
        """Return the jobs that the next run would do, as ``rule wildcard wildcard ...``."""
        return jobs_of(self.make("--dry-run", *arguments))

    def plan(self, *arguments, **environment):
        """Return what `make plan` says."""
        path = os.pathsep.join(["src", *filter(None, [environment.pop("PYTHONPATH", "")])])
        env = {**os.environ, **environment, "PYTHONPATH": path}
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            code = plans().run(
                "blindspots.study.explain", list(arguments), self.path, env, output, errors
            )
            for stream in (output, errors):
                stream.seek(0)
            assert code == 0, errors.read()
            return output.read()

    def edit_config(self, change):
        """Change the configuration in place: ``change`` gets it as a mapping."""
        config = yaml.safe_load(self.config.read_text())
        change(config)
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def edit(self, file, old, new):
        """Replace a text, which must be there, in a file."""
        path = self.path / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new, 1))

    def contents(self, but=("logs", "cells")):
        """Return the bytes of all results, but for logs and cells of earlier configurations."""
        return {
            str(path.relative_to(self.results)): path.read_bytes()
            for path in sorted(self.results.rglob("*"))
            if path.is_file() and path.relative_to(self.results).parts[0] not in but
        }


def bundle(project):
    """Run `make bundle` in a project, in the environment that the tests run in."""
    (project.path / "studies/tiny.yaml").write_text("study: tiny\n")
    (project.path / "installed").touch()
    return subprocess.run(
        ["make", "bundle", "STUDY=tiny", "INSTALLED=installed"],
        cwd=project.path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
