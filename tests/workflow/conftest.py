"""Copies of the project with a tiny study."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, Project, left_out


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.workflow)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A copy of the project whose configuration is the tiny study; nothing has been run."""
    path = tmp_path_factory.mktemp("template") / "project"
    shutil.copytree(ROOT, path, ignore=left_out)
    shutil.copy(Path(__file__).with_name("tiny.yaml"), path / "config.yaml")
    return path


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A function that makes a project once for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def project(name, make):
        path, done = folder / name / "project", folder / f"{name}.done"
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(path)
                done.touch()
        return path

    return project


@pytest.fixture(scope="session")
def finished_template(template, shared):
    """The same after a whole run."""

    def make(path):
        shutil.copytree(template, path)
        Project(path).make()

    return shared("finished", make)


@pytest.fixture
def fresh(template, tmp_path):
    """A project in which nothing has been run."""
    shutil.copytree(template, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def finished(finished_template, tmp_path):
    """A project whose tiny study is complete."""
    shutil.copytree(finished_template, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def digits(shared):
    """The digits study and its report, by the README's command."""

    def make(path):
        shutil.copytree(ROOT, path, ignore=left_out)
        # The environment that the tests run in stands for the one that make would install.
        (path / ".venv").symlink_to(sys.prefix)
        with_stamp(path)
        done = subprocess.run(
            ["make", "run"], cwd=path, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr[-6000:]

    return Project(shared("digits", make))


@pytest.fixture(scope="session")
def mnist_in_small(template, shared):
    """The tiny study on 2000 images of MNIST, with printed numbers."""
    raw = Path(os.environ.get("BLINDSPOTS_DATA", "data")).resolve() / "MNIST/raw"
    if not raw.is_dir():
        pytest.skip("no MNIST/raw under BLINDSPOTS_DATA")

    def small(config):
        config.update(dataset="mnist", download=False)
        config["splits"]["parts"]["some"] = {"of": "train", "range": [0, 2000]}
        for model in config["models"].values():
            model["split"] = "some"
        config["models"]["A"]["label"] = "softmax1"
        config["tables"]["summary"]["printed"] = "szegedy2013-table1.csv"

    def make(path):
        shutil.copytree(template, path)
        project = Project(path)
        project.edit_config(small)
        project.make("results/tiny/tables/summary.csv")

    return Project(shared("mnist", make))


def with_stamp(path):
    """Tell make that the environment is installed, without writing into it."""
    text = (path / "Makefile").read_text()
    assert "INSTALLED := .venv/installed" in text
    (path / "Makefile").write_text(
        text.replace("INSTALLED := .venv/installed", "INSTALLED := installed")
    )
    (path / "installed").touch()
