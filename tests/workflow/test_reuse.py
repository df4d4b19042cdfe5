"""Reuse: as a module of another workflow, through a cache between checkouts, as a bundle."""

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from project import ROOT, Project, bundle
from snakemake.persistence.file import FilePersistence

from blindspots.study.bundle import commit, record_of

IMPORT = """
configfile: "config.yaml"


module blindspots:
    snakefile:
        "blindspots/Snakefile"
    config:
        config["robustness"]
    pathvars:
        results="out",


use rule * from blindspots as bs_*
"""
OWN_RULE = """

rule count_cells:
    default_target: True
    input:
        rules.bs_all.input,
        table=rules.bs_collect_transfer.output.transfer,
    output:
        "count.txt",
    shell:
        "wc -l < {input.table} > {output}"
"""


class Importer(Project):
    """A workflow that imports this one from a folder below its own."""

    def __init__(self, path, template, snakefile):
        super().__init__(path)
        self.results = path / "out/tiny"
        shutil.copytree(template, path / "blindspots")
        (path / "Snakefile").write_text(snakefile)
        config = yaml.safe_load((path / "blindspots/config.yaml").read_text())
        self.config.write_text(yaml.safe_dump({"author": "somebody", "robustness": config}))


# As a module ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def importer(template, tmp_path_factory):
    """A workflow that has imported this one and run it."""
    importer = Importer(tmp_path_factory.mktemp("importer"), template, IMPORT + OWN_RULE)
    importer.make()
    return importer


def test_imported_study_has_the_same_bytes_elsewhere(importer, finished_template):
    assert importer.contents(but=("logs",)) == Project(finished_template).contents(but=("logs",))
    assert not (importer.path / "results").exists()
    assert not (importer.path / "blindspots/results").exists()
    lines = (importer.results / "transfer.csv").read_text().count("\n")
    assert int((importer.path / "count.txt").read_text()) == lines


def test_imported_study_runs_once(importer):
    assert "Nothing to be done" in importer.make()


def test_imported_study_has_its_captions(importer):
    """They show the study's configuration, which is not the importer's."""
    profile = ("--workflow-profile", "blindspots/profiles/default")  # with its stylesheet
    importer.make(*profile, "--report", "report.html")
    page = (importer.path / "report.html").read_text()
    assert re.search("All measurements of the study <tt[^>]*>tiny</tt>", page)


def test_network_of_the_importer(importer, tmp_path):
    """A file where snakemake runs is found when jobs are planned, and by the step."""
    shutil.copytree(importer.path, tmp_path / "project")
    copy = Project(tmp_path / "project")
    (copy.path / "my_networks.py").write_text(
        "from torch import nn\n\n\ndef linear(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )

    def use(config):
        models = config["robustness"]["models"]
        models["A"] = {"architecture": "my_networks:linear", "split": "train"}

    copy.edit_config(use)
    copy.make("out/tiny/models/A/seed0.safetensors")


def test_example_of_the_documentation_has_relative_inputs(template, tmp_path):
    """Printed numbers, too, though a prefix is put before all products."""
    section = (ROOT / "docs/operations.md").read_text().partition("## As a module")[2]
    example = re.search("```python\n(.*?)```", section, re.DOTALL)[1]
    pathvars, prefix = 'pathvars:\n        results="robustness",', 'prefix:\n        "ours"'
    assert pathvars in example
    importer = Importer(tmp_path, template, example.replace(pathvars, prefix))
    shutil.copy(ROOT / "config.yaml", tmp_path / "blindspots")
    plan = importer.make("--dry-run")
    inputs = set(re.findall(r"[^ ,]+", " ".join(re.findall(r"\n    input: (.*)", plan))))
    assert "blindspots/workflow/reference/szegedy2013-table1.csv" in inputs
    assert {path.split("/")[0] for path in inputs} == {"ours", "blindspots"}


def test_two_studies_of_one_checkout_keep_their_own_settings(template, tmp_path):
    other = IMPORT.replace("robustness", "other").replace("module blindspots", "module other")
    other = other.replace("from blindspots as bs", "from other as other")
    importer = Importer(tmp_path, template, IMPORT + other)
    config = yaml.safe_load(importer.config.read_text())
    config["robustness"]["dataset"] = "mnist"  # which is read from a folder
    config["other"] = {**config["robustness"], "study": "other", "data_root": "there"}
    importer.config.write_text(yaml.safe_dump(config))
    targets = ("out/tiny/data.safetensors", "out/other/data.safetensors")
    plan = importer.make("--dry-run", "--printshellcmds", *targets, BLINDSPOTS_DATA="")
    roots = re.findall(r"--root (\S+) .*--to (\S+)", plan)
    assert sorted(roots) == sorted(zip(("data", "there"), targets, strict=True))


def test_two_checkouts_in_one_workflow_are_refused(template, tmp_path):
    importer = Importer(tmp_path, template, IMPORT + IMPORT.replace("blindspots", "other"))
    shutil.copytree(template, tmp_path / "other")
    done = importer.snakemake("--dry-run")
    assert done.returncode == 1
    assert "a workflow imports blindspots from one checkout on this machine" in done.stdout
    assert "Traceback" not in done.stdout


# Between workflows ---------------------------------------------------------------------------


def test_cache_between_checkouts(template, tmp_path):
    """Same code, same work done once; other code of the attack, other sets, same models."""
    (tmp_path / "cache").mkdir()

    def run(name, *edit):
        shutil.copytree(template, tmp_path / name)
        project = Project(tmp_path / name)
        if edit:
            project.edit(*edit)
        project.make(
            "results/tiny/adversarial/A/seed0/few-random.safetensors",
            "--cache",
            "train_model",
            "generate_adversarial_set",
            SNAKEMAKE_OUTPUT_CACHE=str(tmp_path / "cache"),
        )
        # Snakemake makes an empty log for a job whose output it takes from the cache.
        logs = [path for path in (project.results / "logs").rglob("*.log") if path.stat().st_size]
        return {path.parent.name for path in logs}, project.contents()

    both = {"train_model", "generate_adversarial_set"}
    steps, first = run("first")
    assert steps == both
    steps, second = run("second")
    assert steps == set()
    assert second == first
    steps, third = run(
        "third", "src/blindspots/attacks/lbfgs.py", "TOLERANCE = 1e-2", "TOLERANCE = 2e-2"
    )
    assert steps == {"generate_adversarial_set"}
    changed = {path for path in first if first[path] != third[path]}
    assert changed == {"adversarial/A/seed0/few-random.safetensors"}


# As a bundle ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(finished_template, tmp_path_factory):
    """The bundle of the tiny study."""
    path = tmp_path_factory.mktemp("bundled") / "project"
    shutil.copytree(finished_template, path)
    (path / "my_networks.py").write_text("# a network of the user's own\n")
    done = bundle(Project(path))
    assert done.returncode == 0, done.stderr
    return path / "results/tiny-bundle.tar.gz"


@pytest.fixture
def unpacked(archive, fresh):
    """A fresh copy of the project over which the bundle was unpacked."""
    with tarfile.open(archive) as content:
        # The first releases of Python 3.11 have no filters.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        content.extractall(fresh.path, **safe)
    return fresh


def test_unpacked_study_goes_on_without_reruns(unpacked, finished_template):
    plan = unpacked.make("--dry-run", BLINDSPOTS_DATA="elsewhere")
    assert "Nothing to be done" in plan
    results = unpacked.contents()
    about = json.loads(results.pop("bundle.json"))
    assert results.pop("SHA256SUMS")
    assert results == Project(finished_template).contents()
    assert about["study"] == "tiny"
    assert about["commit"] is None
    assert about["config"]["training"]["history"] == 100  # a default, filled in
    assert {"torch", "numpy", "snakemake"} <= set(about["packages"])
    assert (unpacked.path / "my_networks.py").exists()
    unpacked.edit_config(lambda c: c["models"]["B"].update(description="changed"))
    assert unpacked.planned() == {"tabulate summary", "tabulate transfer"}
    unpacked.make()


def test_same_files_give_the_same_archive(archive, tmp_path):
    """Whoever owns them, whatever their dates."""
    shutil.copytree(archive.parents[1], tmp_path / "project", copy_function=shutil.copyfile)
    done = bundle(Project(tmp_path / "project"))
    assert done.returncode == 0, done.stderr
    again = tmp_path / "project/results/tiny-bundle.tar.gz"
    assert again.read_bytes() == archive.read_bytes()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_changed_file_of_a_bundle_is_named(unpacked):
    command = ["sha256sum", "--check", "--quiet", "results/tiny/SHA256SUMS"]
    subprocess.run(command, cwd=unpacked.path, check=True)
    unpacked.edit("results/tiny/transfer.csv", "noise", "voice")
    done = subprocess.run(command, cwd=unpacked.path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "results/tiny/transfer.csv: FAILED\n"


@pytest.mark.parametrize("state", ["missing", "outdated", "without records", "damaged"])
def test_study_that_is_not_whole_is_not_packed(finished, state):
    if state == "missing":
        (finished.results / "tables/summary.md").unlink()
        sentence = "1 of the study's 21 jobs must still run, for results/tiny/tables/summary.csv"
    elif state == "outdated":
        finished.edit_config(lambda c: c["tables"]["summary"].update(caption="Changed"))
        sentence = "1 of the study's 21 jobs must still run, for results/tiny/tables/summary.csv"
    elif state == "damaged":
        image = finished.results / "figures/noise_examples/noisy.png"
        image.write_bytes(image.read_bytes()[:-9])
        sentence = (
            f"1 was damaged or changed since: results/tiny/figures/noise_examples/{image.name}"
        )
    else:
        shutil.rmtree(finished.path / ".snakemake/metadata")
        sentence = "Snakemake has no record of results/tiny/"
    done = bundle(finished)
    assert done.returncode != 0
    assert sentence in done.stderr and "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(finished.path.glob("results/*bundle*")) == []


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder as the working directory."""
    monkeypatch.chdir(tmp_path)


def test_record_of_an_output_with_a_long_path(here):
    """It lies where Snakemake itself would put it: in folders, since it is longer than a name."""
    output = f"results/tiny/models/{'long' * 60}/seed0.safetensors"
    persistence = SimpleNamespace(_fetch_max_len=lambda folder: os.pathconf(".", "PC_NAME_MAX"))
    record = FilePersistence._record_path(persistence, ".snakemake/metadata", output)
    os.makedirs(os.path.dirname(record))
    Path(record).touch()
    assert record_of(output) == record


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_commit_is_told(here):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", *identity, *arguments], check=True, stdout=subprocess.PIPE)
        return done.stdout.decode().strip()

    assert commit() is None
    git("init", "--quiet")
    assert commit() is None
    Path("file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    assert commit() == git("rev-parse", "HEAD")
    Path("file").write_text("two")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
