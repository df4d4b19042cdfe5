"""Copies of the project with a tiny study."""

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
def finished_template(template):
    """The same after a whole run."""
    path = template.with_name("finished")
    shutil.copytree(template, path)
    Project(path).make()
    return path


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
def digits(tmp_path_factory):
    """The digits study and its report, by the README's command."""
    path = tmp_path_factory.mktemp("digits") / "project"
    shutil.copytree(ROOT, path, ignore=left_out)
    # The environment that the tests run in stands for the one that make would install.
    (path / ".venv").symlink_to(sys.prefix)
    with_stamp(path)
    done = subprocess.run(
        ["make", "run"], cwd=path, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return Project(path)


@pytest.fixture(scope="session")
def mnist_in_small(template, tmp_path_factory):
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

    path = tmp_path_factory.mktemp("mnist") / "project"
    shutil.copytree(template, path)
    project = Project(path)
    project.edit_config(small)
    project.make("results/tiny/tables/summary.csv")
    return project


def with_stamp(path):
    """Tell make that the environment is installed, without writing into it."""
    text = (path / "Makefile").read_text()
    assert "INSTALLED := .venv/installed" in text
    (path / "Makefile").write_text(
        text.replace("INSTALLED := .venv/installed", "INSTALLED := installed")
    )
    (path / "installed").touch()
