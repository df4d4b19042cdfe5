"""What docs/extending.md says of code: its four points are added to a copy, run, and edited."""

import difflib
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from project import ROOT, Project
from safetensors import safe_open
from snakemake.utils import update_config
from snippets import POINTS, snippets

from blindspots.artifacts import read_header

MINE = [snippet for snippet in snippets() if snippet.section in POINTS]
CODE = [snippet for snippet in MINE if snippet.path]
CONFIGURATIONS = [snippet.text for snippet in MINE if not snippet.path]
NEW = [snippet.path for snippet in CODE if snippet.language != "diff"]
REGISTRIES = {
    "src/blindspots/study/kinds.py",
    "src/blindspots/models/makers/registry.py",
    "src/blindspots/data/sources/registry.py",
    "src/blindspots/evaluation/variants/registry.py",
}
KIND = "src/blindspots/experiments/confidence"
# Names of config.yaml, and those of the tiny study that stand for them.
NAMES = {
    "softmax1": "A",
    "M1": "B",
    "M2": "C",
    "test-random": "few-random",
    "cross_training_set": "pairs",
}

DATA = {"prepare_data"}
CHAIN = {"train_model longer 0", "train_model harder 0"}
TRAIN = {f"train_model {model} 0" for model in "ABC"} | CHAIN
SETS = {f"generate_adversarial_set {model} 0 few-random" for model in ("A", "B", "C", "longer")}
ROWS = {f"evaluate_transfer {model} 0 few-random" for model in "ABC"}
NOISE = {"evaluate_noise 0 few", "evaluate_noise 0 test"}
SUMMARY = {"collect_transfer", "tabulate summary", "tabulate transfer"}
SUMMARY |= {"plot_transfer pairs", "plot_error_curves pairs"}
FROM_SETS = {"plot_distortions pairs"}
FIGURE = {"plot_confidence sure"}
MEASURED = {"measure_confidence sure"} | FIGURE
FROM_VICTIMS = ROWS | NOISE | SUMMARY
EVERYTHING = DATA | TRAIN | SETS | {"check_engines"} | FROM_VICTIMS | FROM_SETS | MEASURED
# Edits of each file, and the jobs that each causes. A plan is no part of what it plans: of it, and
# of what Snakemake alone reads, what counts is what it says of a job.
EDITS = {
    "science": (f"{KIND}/confidence.py", "logits.double()", "logits.double().mul(1)", MEASURED),
    "step": (f"{KIND}/measure_confidence.py", "%.4f", "%.5f", MEASURED),
    "figure": (f"{KIND}/plot_confidence.py", '"o"', '"x"', FIGURE),
    "plan, a setting": (
        f"{KIND}/plan.py",
        '"chunk": study.config["chunk"]',
        '"chunk": 50',
        MEASURED,
    ),
    "plan, nothing that is said of a job": (
        f"{KIND}/plan.py",
        "where = f",
        "where = f'' + f",
        set(),
    ),
    "schema, a default": (f"{KIND}/schema.yaml", "default: test", "default: few", MEASURED),
    "rule": (f"{KIND}/rules.smk", "needs(4000, 60)", "needs(2000, 30)", set()),
    "caption": (f"{KIND}/captions/plot_confidence.rst", "Mean", "The mean", set()),
    "maker": (
        "src/blindspots/models/makers/finetuned.py",
        '"learning_rate": 0.001',
        '"learning_rate": 0.002',
        CHAIN | {"generate_adversarial_set longer 0 few-random"} | FROM_VICTIMS,
    ),
    "source": (
        "src/blindspots/data/sources/shapes.py",
        "integers(10, 80",
        "integers(20, 80",
        EVERYTHING - {"check_engines"},
    ),
    "variant": (
        "src/blindspots/evaluation/variants/mirrored.py",
        "flip(-1)",
        "flip(-2)",
        ROWS | SUMMARY,
    ),
    # Of what a chain begins with.
    "training": (
        "config.yaml",
        "split: P1\n    weight_decay: 0.0001",
        "split: P1\n    weight_decay: 0.0002",
        CHAIN
        | {"train_model B 0"}
        | {f"generate_adversarial_set {model} 0 few-random" for model in ("B", "longer")}
        | FROM_VICTIMS
        | FROM_SETS
        | MEASURED,
    ),
    "attack": (
        "config.yaml",
        "method: lbfgs",
        "method: ddn",
        SETS | {"train_model harder 0", "check_engines"} | FROM_VICTIMS | FROM_SETS,
    ),
}


@pytest.fixture(scope="module")
def added_template(finished_template, tmp_path_factory):
    """The finished tiny study, after which the code of the page has been added."""
    path = tmp_path_factory.mktemp("added") / "project"
    shutil.copytree(finished_template, path)
    for snippet in CODE:
        snippet.apply(path)
    return path


@pytest.fixture
def added(added_template, tmp_path):
    """A project with the code of the page, none of which is used yet."""
    shutil.copytree(added_template, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def extended_template(added_template, tmp_path_factory):
    """A whole study that uses all that has been added, in the page's words."""
    path = tmp_path_factory.mktemp("extended") / "project"
    shutil.copytree(added_template, path)
    project = Project(path, "shapes")

    def use(config):
        for text in CONFIGURATIONS:
            for name, ours in NAMES.items():
                text = re.sub(rf"\b{name}\b", ours, text)
            update_config(config, yaml.safe_load(text))
        del config["figures"]

    project.edit_config(use)
    project.make()
    return path


@pytest.fixture
def extended(extended_template, tmp_path):
    """A project whose study uses all that has been added, and is complete."""
    shutil.copytree(extended_template, tmp_path / "project")
    return Project(tmp_path / "project", "shapes")


def test_one_line_elsewhere(added_template):
    """Beside the new files, each point adds a line to its registry and changes no other."""
    changed = {}
    for path in sorted(added_template.rglob("*")):
        name = str(path.relative_to(added_template))
        if path.suffix in (".py", ".smk", ".yaml", ".rst") and name not in (*NEW, "config.yaml"):
            texts = [(root / name).read_text().splitlines() for root in (ROOT, added_template)]
            if texts[0] != texts[1]:
                lines = difflib.unified_diff(*texts, n=0, lineterm="")
                changed[name] = [line for line in lines if re.match(r"[+-](?![+-]{2})", line)]
    assert changed.keys() == REGISTRIES
    for lines in changed.values():
        assert len(lines) == 1 and lines[0].startswith("+    "), lines


def test_added_code_is_in_the_style_of_the_house(added_template):
    """Formatter and linter find nothing, in Python and in rules."""
    python = [path for path in NEW if path.endswith(".py")]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for command in (
        ["ruff", "check", "--no-cache", *settings, *python],
        ["ruff", "format", "--no-cache", "--check", *settings, *python],
        ["snakefmt", "--check", f"{KIND}/rules.smk"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=added_template, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_adding_reruns_nothing(added):
    """A line more in a registry is no edit of what stands there."""
    assert added.planned() == set()


def test_words_of_the_page_fit_the_paper_s_study(added):
    """With the names that config.yaml has."""
    added.config.write_text((ROOT / "config.yaml").read_text())
    for number, text in enumerate(CONFIGURATIONS):
        change = {**yaml.safe_load(text), "study": f"point{number}"}
        (added.path / f"studies/point{number}.yaml").write_text(yaml.safe_dump(change))
    files = [f"studies/point{number}.yaml" for number in range(len(CONFIGURATIONS))]
    (added.path / "studies/run.yaml").write_text(
        "study: run\nrun: [sure, cross_training_set]\ntables: {table1: null, table2: null}\n"
        "figures: {examples: {figure7a: null, figure7b: null}}\n"
    )
    planned = added.planned("all", "--configfile", *files, "studies/run.yaml")
    assert planned >= {"measure_confidence sure", "train_model harder 0"}


def test_study_is_complete(extended):
    assert extended.planned() == set()
    table = (extended.results / "confidence/sure.csv").read_text().splitlines()
    assert table[0] == "model,seed,right,wrong" and len(table) == 3
    with safe_open(extended.results / "data.safetensors", "np") as data:
        assert data.get_slice("train_images").get_shape() == [1000, 3, 8, 8]
    rows = (extended.results / "transfer.csv").read_text()
    for victim in ("B", "C", "longer", "harder"):
        assert f"A,{victim},0,0,few-random,mirrored," in rows


def test_first_run_makes_everything(extended_template, extended):
    shutil.rmtree(extended.path / "results")
    assert extended.planned() == EVERYTHING


def test_chain_is_made_from_the_earlier_model_and_its_set(extended):
    """Each link names the job of the one before, and has other weights."""
    models = {
        n: extended.results / f"models/{n}/seed0.safetensors" for n in ("B", "longer", "harder")
    }
    told = {name: read_header(path) for name, path in models.items()}
    attacked = read_header(extended.results / "adversarial/longer/seed0/few-random.safetensors")
    assert told["longer"]["spec"]["upstream"].keys() == {"data", "earlier"}
    assert told["longer"]["spec"]["upstream"]["earlier"] == told["B"]["job"]
    assert told["harder"]["spec"]["upstream"]["earlier"] == told["longer"]["job"]
    assert told["harder"]["spec"]["upstream"]["set"] == attacked["job"]
    assert attacked["spec"]["upstream"]["model"] == told["longer"]["job"]
    assert len({header["content"] for header in told.values()}) == 3
    assert all(header["network"] == told["B"]["network"] for header in told.values())


def test_report_shows_what_has_been_added(extended):
    """With captions, in which the title of the experiment stands."""
    extended.make("--report", "report.html")
    page = (extended.path / "report.html").read_text()
    assert "<strong>Sure and wrong.</strong> Mean probability" in page
    assert "for the models of experiment" in page


def test_chain_that_bites_its_tail_is_refused(extended):
    """In a sentence, before anything runs: a model of itself, and of its own adversarial set."""
    for model, change in (
        ("longer", {"finetunes": "longer"}),
        ("longer", {"finetunes": "harder"}),
    ):
        extended.edit_config(lambda c, m=model, e=change: c["models"][m].update(e))
        done = extended.snakemake("--dry-run")
        assert done.returncode == 1 and "it would be made from itself" in done.stdout
        assert "Traceback" not in done.stdout


def test_mistakes_in_added_entries_are_told(extended):
    """By the fragments of the schema, and by the problems that kind and maker look for."""

    def confuse(config):
        config["models"]["longer"]["finetunes"] = "Bee"
        config["experiments"]["sure"]["models"] = ["harde"]
        config["experiments"]["sure"]["images"] = "fewer"

    extended.edit_config(confuse)
    told = extended.snakemake("--dry-run").stdout
    assert "models.longer.finetunes: there is no model 'Bee'" in told
    assert "experiments.sure.models: there is no model 'harde' (did you mean harder?)" in told
    assert "experiments.sure.images: there is no split 'fewer' (did you mean few?)" in told
    extended.edit_config(lambda c: c["models"]["longer"].update(epoch=3, epochs="many"))
    told = extended.snakemake("--dry-run").stdout
    assert "models.longer.epoch is not a known key (did you mean epochs?)" in told
    assert "models.longer.epochs must be a number, not the text 'many'" in told


@pytest.mark.parametrize(("file", "old", "new", "expected"), EDITS.values(), ids=list(EDITS))
def test_edit(extended, file, old, new, expected):
    extended.edit(file, old, new)
    assert extended.planned() == expected


def test_every_file_is_edited():
    """But for the package's empty file."""
    edited = {file for file, *_ in EDITS.values()}
    assert edited - {"config.yaml"} == {
        path for path in NEW if not path.endswith(("__init__.py", "measure_confidence.rst"))
    }


def test_comments_rerun_nothing(extended):
    for file in NEW:
        path = extended.path / file
        if path.suffix in (".py", ".smk", ".yaml") and path.name != "__init__.py":
            path.write_text(f"# A comment.\n{path.read_text()}# Another.\n")
    assert extended.planned() == set()
