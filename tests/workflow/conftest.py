"""Copies of the project with a tiny study."""

import shutil
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
