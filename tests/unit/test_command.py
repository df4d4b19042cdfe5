"""The command `blindspots`: what it starts for which arguments, and what it says instead."""

import re
import sys
import tomllib

import pytest
import yaml

import blindspots
from blindspots import __main__ as command

DIGITS, MNIST = "--configfile=studies/digits.yaml", "--configfile=studies/mnist.yaml"
STARTED = {
    "run": ["snakemake", DIGITS, "--cores=2"],
    "run mnist --cores 4": ["snakemake", MNIST, "--cores=4"],
    "run --dry-run": ["snakemake", DIGITS, "--cores=2", "--dry-run"],
    "run mnist a/file --config seeds=[1] -n": [
        *("snakemake", MNIST, "--cores=2", "a/file", "--config", "seeds=[1]", "-n"),
    ],
    "run --config seeds=[1]": ["snakemake", DIGITS, "--cores=2", "--config", "seeds=[1]"],
    # who says how much runs at one time is not talked over
    "run mnist --workflow-profile profiles/slurm": [
        *("snakemake", MNIST, "--workflow-profile", "profiles/slurm"),
    ],
    "run digits -j4": ["snakemake", DIGITS, "-j4"],
    "run digits --jobs=4 --cores 3": ["snakemake", DIGITS, "--cores=3", "--jobs=4"],
    "plan": ["blindspots.study.explain", "--configfile", "studies/digits.yaml"],
    "plan mnist": ["blindspots.study.explain", "--configfile", "studies/mnist.yaml"],
    "bundle mnist": ["blindspots.study.bundle", "mnist"],
    "report mnist": ["snakemake", MNIST, "--cores=2", "--report", "results/mnist/report.html"],
}
KNOWN = "known studies: cifar10 digits inside-digits mnist photographs quocnet szegedy2013"
REFUSED = {
    "run nope": f"there is no studies/nope.yaml; {KNOWN}",
    "run ../config": f"there is no studies/../config.yaml; {KNOWN}",
    "report": f"no study is named; {KNOWN}",
    "bundle": f"no study is named; {KNOWN}",
    "run digits --configfile mine.yaml": "--configfile would take the place of the study's own",
}


@pytest.fixture
def started(monkeypatch):
    """What the command has become: the arguments and the environment of a program."""
    found = []
    monkeypatch.setattr(command.os, "execve", lambda *arguments: found.append(arguments))
    monkeypatch.setattr(command, "_cores", lambda: 2)
    return found


@pytest.mark.parametrize("line", STARTED)
def test_what_is_started(started, root, monkeypatch, line):
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    command.main(line.split())
    ((program, arguments, environment),) = started
    assert program == sys.executable
    assert arguments == [sys.executable, "-m", *STARTED[line]]
    assert environment["PYTHONPATH"] == f"{root}/src:/mine"


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(started, root, monkeypatch, line):
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as caught:
        command.main(line.split())
    assert str(caught.value).startswith(f"error: {REFUSED[line]}")
    assert "\n" not in caught.value.code and not started


@pytest.mark.parametrize("line", ["plan digits --dry-run", "report digits x", "run --cores 0"])
def test_arguments_that_are_none(started, root, monkeypatch, line):
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as caught:
        command.main(line.split())
    assert caught.value.code == 2 and not started


@pytest.mark.parametrize("name", ["run", "plan", "report digits", "bundle digits"])
def test_outside_a_checkout(started, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        command.main(name.split())
    assert re.fullmatch(
        r"error: .* is no checkout of blindspots; go to the folder that holds its Snakefile and "
        "studies/, and type it there",
        caught.value.code,
    )


@pytest.mark.parametrize("line", ["", "--help", "run --help", "bundle -h"])
def test_help_is_shown_anywhere(started, tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    try:
        command.main(line.split())
    except SystemExit as left:
        assert left.code == 0
    assert capsys.readouterr().out.startswith("usage: blindspots") and not started


def test_cores_are_counted():
    assert command._cores() >= 1


# The package ------------------------------------------------------------------------------------


@pytest.fixture
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


def test_command_is_installed(project):
    module, _, function = project["project"]["scripts"]["blindspots"].partition(":")
    assert getattr(sys.modules[module], function) is command.main


def test_version_is_said_once(project, root):
    """The package's own; what cites it says the same."""
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "blindspots.__version__"}
    cited = yaml.safe_load((root / "CITATION.cff").read_text())["version"]
    assert cited == blindspots.__version__


def test_every_file_of_the_package_is_installed(project, root):
    """Schemas, rules, captions and pages of kinds, beside the code."""
    package = root / "src/blindspots"
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    folders = [path.parent for path in package.rglob("__init__.py")]
    installed = {path for folder in folders for p in patterns for path in folder.glob(p)}
    others = {
        path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others and installed == others
    assert all(path.parent in folders for path in package.rglob("*.py"))
