"""What reruns when: for each row of the README's table, after each edit exactly the jobs of it."""

import ast
import csv
import os
import random
import re
import shutil
import time

import pytest
import yaml
from project import ROOT, Project, jobs_in
from safetensors.numpy import load_file

MODELS = ("A", "B", "C")
DATA = {"prepare_data"}
TRAIN = {f"train_model {m} 0" for m in MODELS}
ATTACK = {f"generate_adversarial_set {m} 0 few-random" for m in MODELS}
ROWS = {f"evaluate_transfer {m} 0 few-random" for m in MODELS}
NOISE = {"evaluate_noise 0 few", "evaluate_noise 0 test"}
CHECK = {"check_engines"}
COLLECT = {"collect_transfer"}
TABLES = {"tabulate summary", "tabulate transfer"}
FROM_TABLE = {"plot_transfer pairs", "plot_error_curves pairs"}
FROM_SETS = {"plot_distortions pairs"}
DISTORTED, NOISY = {"plot_adversarial_examples distorted"}, {"plot_noise_examples noisy"}
SUMMARY = COLLECT | TABLES | FROM_TABLE
FIGURES = FROM_TABLE | FROM_SETS | DISTORTED | NOISY
FROM_ATTACK = ROWS | SUMMARY | FROM_SETS | DISTORTED
FROM_TRAINING = TRAIN | ATTACK | NOISE | FROM_ATTACK
EVERYTHING = DATA | CHECK | FROM_TRAINING | NOISY
NOTHING = "Nothing will run"
# From outputs to inputs: when each is newer than the one before, every date speaks for a rerun.
BACKWARDS = (
    "figures",
    "tables",
    "transfer.csv",
    "answers.safetensors",
    "rows",
    "adversarial",
    "models",
    "data.safetensors",
)


def of(jobs, *names):
    """Return the jobs of some models."""
    return {job for job in jobs if job.split()[1] in names}


# Edits: each is a function of a project, and may return what to add to the environment. -----------


def configured(change):
    """Edit the configuration: ``change`` gets it as a mapping."""
    return lambda project: project.edit_config(change)


def coded(file, old, new):
    """Edit a file of the package."""
    return lambda project: project.edit(f"src/blindspots/{file}", old, new)


def library(name):
    """Give a library another version: a record of one is found before its own."""

    def install(project):
        record = project.path / f"newer/{name.replace('-', '_')}-99.0.dist-info/METADATA"
        record.parent.mkdir(parents=True)
        record.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
        return {"PYTHONPATH": str(project.path / "newer")}

    return install


def reword(project):
    """Add a comment to every file of the package, and words to every docstring."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    for path in (project.path / "src/blindspots").rglob("*.py"):
        text = path.read_text()
        lines = text.splitlines(keepends=True)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, documented) and ast.get_docstring(node):
                last = node.body[0].end_lineno - 1
                lines[last] = lines[last].replace('"""', '"""More words. ', 1)
                if node.body[0].lineno - 1 != last:  # its last line has but the closing quotes
                    lines[last] = lines[last].replace('"""More words. ', 'More words."""')
        path.write_text("# A comment.\n\n\n" + "".join(lines))


def reorder(project):
    """Shuffle the keys of the configuration and comment it."""

    def shuffled(value):
        if isinstance(value, dict):
            items = sorted(value.items(), key=lambda item: random.Random(str(item[0])).random())
            return {key: shuffled(item) for key, item in items}
        return value

    settings = shuffled(yaml.safe_load(project.config.read_text()))
    settings["data_root"] = "elsewhere"
    project.config.write_text(f"# a comment\n{yaml.safe_dump(settings, sort_keys=False)}")


def touch(project):
    """Make every input newer than what was made from it."""
    time = max(path.stat().st_mtime for path in project.results.rglob("*"))
    for rank, stage in enumerate(BACKWARDS):
        for path in [project.results / stage, *(project.results / stage).rglob("*")]:
            os.utime(path, (time + rank, time + rank))


def move(project):
    """Copy project and results to another folder, where every file gets a new date."""
    elsewhere = project.path.with_name("elsewhere")
    shutil.copytree(project.path, elsewhere, copy_function=shutil.copyfile)
    shutil.rmtree(project.path)
    project.path, project.results = elsewhere, elsewhere / "results/tiny"
    touch(project)


def new_model(settings, **names):
    """Add a model D, and its name to lists of the experiment."""

    def change(config):
        config["models"]["D"] = {"architecture": "softmax", "split": "P1", **settings}
        config["experiments"]["pairs"].update(names)

    return configured(change)


# For each row of the README's table: edits, the jobs that each causes, and what `make plan` says
# of the cause.
EDITS = {
    "a model's settings": {
        "weight decay of one model": (
            configured(lambda c: c["models"]["B"].update(weight_decay=1.0e-3)),
            of(TRAIN | ATTACK, "B") | ROWS | NOISE | SUMMARY | FROM_SETS,
            "B seed 0: training.weight_decay [0.0001] -> [0.001]",
        ),
        "training of all models": (
            configured(lambda c: c["training"].update(tolerance=1.0e-3)),
            FROM_TRAINING,
            "A seed 0, B seed 0, C seed 0: training.tolerance 0.002 -> 0.001",
        ),
        "two values swapped": (
            configured(
                lambda c: (
                    c["models"]["B"].update(split="P2"),
                    c["models"]["C"].update(split="P1"),
                )
            ),
            of(TRAIN | ATTACK, "B", "C") | ROWS | NOISE | SUMMARY | FROM_SETS,
            "B seed 0: split.share [0.0, 0.5] -> [0.5, 1.0]",
        ),
    },
    "a label, a description, a caption": {
        "label": (
            configured(lambda c: c["models"]["B"].update(label="Bee")),
            TABLES | FROM_TABLE | FROM_SETS,
            'labels.B "B" -> "Bee"',
        ),
        # The same values stand in each specification, under other keys.
        "two labels swapped": (
            configured(
                lambda c: (
                    c["models"]["A"].update(label="B"),
                    c["models"]["B"].update(label="Model A"),
                )
            ),
            TABLES | FROM_TABLE | FROM_SETS | DISTORTED,
            'labels.A "Model A" -> "B"; labels.B "B" -> "Model A"',
        ),
        "description": (
            configured(lambda c: c["models"]["B"].update(description="changed")),
            TABLES,
            'descriptions.B "" -> "changed"',
        ),
        "caption": (
            configured(lambda c: c["tables"]["summary"].update(caption="Changed")),
            {"tabulate summary"},
            'caption "" -> "Changed"',
        ),
    },
    "key order, comments, `data_root`": {"all of them": (reorder, set(), NOTHING)},
    "a new model": {
        "source": (
            new_model({}, sources=["A", "B", "C", "D"]),
            {"train_model D 0", "generate_adversarial_set D 0 few-random"}
            | {"evaluate_transfer D 0 few-random"}
            | ROWS
            | NOISE
            | SUMMARY
            | FROM_SETS,
            "train model (1)\n  D seed 0: not there yet",
        ),
        "victim only": (
            new_model({}, victims=["A", "B", "C", "D"]),
            {"train_model D 0"} | ROWS | NOISE | SUMMARY,
            'victims: "D" added',
        ),
        "used by no experiment": (new_model({}), set(), NOTHING),
    },
    "a new seed, a new attack": {
        "seed": (
            configured(lambda c: c.update(seeds=[0, 1])),
            {job.replace(" 0", " 1") for job in TRAIN | ATTACK | ROWS | NOISE}
            | SUMMARY
            | FROM_SETS,
            "seeds [0] -> [0, 1]",
        ),
        "attack": (
            configured(
                lambda c: (
                    c["attacks"].update(
                        other={"method": "ddn", "targets": "random", "images": "few"}
                    ),
                    c["experiments"].update(more={"attack": "other", "sources": ["A"]}),
                )
            ),
            {"generate_adversarial_set A 0 other", "evaluate_transfer A 0 other"}
            | {"plot_transfer more", "plot_error_curves more", "plot_distortions more"}
            | CHECK
            | SUMMARY,
            "A seed 0 other: not there yet",
        ),
    },
    "a model, seed or attack removed": {
        "source": (
            configured(lambda c: c["experiments"]["pairs"].update(sources=["A", "B"])),
            of(ROWS, "A", "B") | NOISE | SUMMARY | FROM_SETS,
            'victims: "C" removed',
        ),
    },
    "noise levels, amplification levels": {
        "noise": (
            configured(lambda c: c["experiments"]["pairs"].update(noise=[0.1, 0.3])),
            {"evaluate_noise 0 few"} | SUMMARY,
            'variants: {"kind": "gaussian", "level": 0.3} added',
        ),
        "amplification": (
            configured(lambda c: c["experiments"]["pairs"].update(amplify=[0.2, 0.3])),
            ROWS | SUMMARY,
            'variants: {"kind": "amplified", "level": 0.3} added',
        ),
    },
    "the images or options of an attack": {
        "number of images": (
            configured(lambda c: c["splits"]["parts"]["few"].update(range=[0, 100])),
            ATTACK | FROM_ATTACK | {"evaluate_noise 0 few"} | NOISY,
            "images.range [0, 120] -> [0, 100]",
        ),
        "option": (
            configured(lambda c: c["attacks"]["few-random"].update(options={"pairs": 5})),
            ATTACK | CHECK | FROM_ATTACK,
            "attack.options.pairs 5 is new",
        ),
        "method": (
            configured(lambda c: c["attacks"]["few-random"].update(method="ddn")),
            ATTACK | CHECK | FROM_ATTACK,
            'attack.method "lbfgs" -> "ddn"',
        ),
    },
    "the code of a step": {
        "optimiser": (
            coded("optim/lbfgs_memory.py", "self.count += 1", "self.count += 1 + 0"),
            ATTACK | CHECK | FROM_ATTACK,
            "check engines (1)\n  the code of the step",
        ),
        "attack": (
            coded("attacks/lbfgs.py", "TOLERANCE = 1e-2", "TOLERANCE = 2e-2"),
            ATTACK | CHECK | FROM_ATTACK,
            "check engines (1)\n  the code of the step",
        ),
        "model builder": (
            coded("models/networks.py", "import torch", "import torch\n\nADDED = 1"),
            FROM_TRAINING,
            "A seed 0, B seed 0, C seed 0: the code of the step",
        ),
        "training": (
            coded("models/minimize.py", "BETWEEN_TESTS = 20", "BETWEEN_TESTS = 10"),
            FROM_TRAINING,
            "A seed 0, B seed 0, C seed 0: the code of the step",
        ),
        "evaluation": (
            coded("evaluation/transfer.py", "wrong if success is None", "wrong if None is success"),
            ROWS | NOISE | SUMMARY,
            "seed 0 few, seed 0 test: the code of the step",
        ),
        "check of the engines": (
            coded("attacks/selfcheck.py", "ALLOWED_EXCESS = 0.01", "ALLOWED_EXCESS = 0.02"),
            CHECK,
            "the code of the step",
        ),
        "table": (
            coded("experiments/transfer/tables.py", 'HIGH = "_printed"', 'HIGH = "_print"'),
            TABLES,
            "summary, transfer: the code of the step",
        ),
        "colours of the figures": (
            coded("summary/style.py", '"cividis"', '"viridis"'),
            FIGURES,
            "pairs: the code of the step",
        ),
    },
    "a comment or docstring in the code": {"in every file": (reword, set(), NOTHING)},
    "dates of files; a copy or a fresh checkout, with its results and `.snakemake/`": {
        "touched files": (touch, set(), NOTHING),
        "another folder": (move, set(), NOTHING),
    },
    "`threads`, `device`, `chunk`": {
        "threads": (
            configured(lambda c: c["threads"].update(evaluate=2)),
            ROWS | NOISE | SUMMARY,
            "threads 1 -> 2",
        ),
        "device": (
            configured(lambda c: c.update(device="cpu")),
            FROM_TRAINING | CHECK,
            'device "auto" -> "cpu"',
        ),
        "chunk": (
            configured(lambda c: c.update(chunk=60)),
            ATTACK | FROM_ATTACK | NOISE,
            "chunk 100 -> 60",
        ),
    },
    "a library's version": {
        "data": (library("scikit-learn"), EVERYTHING - CHECK, 'versions.scikit-learn "'),
        "tensors": (library("torch"), EVERYTHING - DATA, 'versions.torch "'),
        "tables": (library("tabulate"), TABLES, 'versions.tabulate "'),
        "figures": (library("seaborn"), FIGURES, 'versions.seaborn "'),
    },
}

# The same for a larger study: two seeds, two attacks, and a victim of the user's own, whose file is
# above the size up to which Snakemake compares contents unless told otherwise.
MODULE = """
from torch import nn


def wide(shape, classes, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, classes))
"""
VICTIM_ROWS = {f"evaluate_transfer A {seed} few-random" for seed in (0, 1)}
ALL_NOISE = {"evaluate_noise 0 few", "evaluate_noise 1 few"}
TRAIN_D = {"train_model D 0", "train_model D 1"}
LARGER_SUMMARY = {"collect_transfer", "tabulate summary"} | {
    f"{plot} {experiment}"
    for plot in ("plot_transfer", "plot_error_curves")
    for experiment in ("pairs", "more")
}


def enlarge(config):
    """Turn the tiny study into the larger one."""
    config["seeds"] = [0, 1]
    config["models"]["D"] = {
        "architecture": "my_networks:wide",
        "options": {"width": 5000},
        "split": "P1",
        "training": {"max_evaluations": 3},
    }
    config["attacks"]["other"] = {
        "method": "ddn",
        "targets": "random",
        "images": "few",
        "options": {"steps": 5},
    }
    config["experiments"]["pairs"].update(sources=["A"], victims=["A", "D"], clean=[])
    config["experiments"]["more"] = {"attack": "other", "sources": ["A"]}
    del config["tables"]["transfer"], config["figures"]


def touch_large(project):
    """Make a large input newer than what was made from it."""
    path = project.results / "models/D/seed0.safetensors"
    assert path.stat().st_size > 1_000_000
    time = max(path.stat().st_mtime for path in project.results.rglob("*"))
    os.utime(path, (time + 1, time + 1))


LARGER_EDITS = {
    "a model, seed or attack removed": {
        "victim": (
            configured(
                lambda c: (c["experiments"]["pairs"].update(victims=["A"]), c["models"].pop("D"))
            ),
            VICTIM_ROWS | ALL_NOISE | LARGER_SUMMARY,
            "results/tiny/models/D/seed0.safetensors, results/tiny/models/D/seed1.safetensors",
        ),
        "seed": (
            configured(lambda c: c.update(seeds=[0])),
            LARGER_SUMMARY | {"plot_distortions pairs", "plot_distortions more"},
            "results/tiny/adversarial/A/seed1/other.safetensors",
        ),
        "attack": (
            configured(lambda c: (c["attacks"].pop("other"), c["experiments"].pop("more"))),
            CHECK | {job for job in LARGER_SUMMARY if not job.endswith("more")},
            "results/tiny/figures/transfer/more.svg",
        ),
    },
    "a module of your own": {
        "code": (
            lambda project: project.edit("my_networks.py", "nn.Tanh()", "nn.Sigmoid()"),
            TRAIN_D | VICTIM_ROWS | ALL_NOISE | LARGER_SUMMARY,
            "D seed 0, D seed 1: your own module",
        ),
        "comment": (
            lambda project: project.edit("my_networks.py", "def wide", "# a comment\ndef wide"),
            set(),
            NOTHING,
        ),
    },
    "dates of files; a copy or a fresh checkout, with its results and `.snakemake/`": {
        "a touched file above 1 MB": (touch_large, set(), NOTHING),
    },
}


@pytest.fixture(scope="module")
def larger_template(finished_template, tmp_path_factory):
    """The larger study, whole; data, model and set that it shares with the tiny one are there."""
    path = tmp_path_factory.mktemp("larger") / "project"
    shutil.copytree(finished_template, path)
    for part in ("models/B", "models/C", "adversarial/B", "adversarial/C", "rows", "figures"):
        shutil.rmtree(path / "results/tiny" / part)
    for file in (path / "results/tiny/tables").iterdir():
        file.unlink()
    project = Project(path)
    (path / "my_networks.py").write_text(MODULE)
    project.edit_config(enlarge)
    project.make()
    return path


@pytest.fixture
def larger(larger_template, tmp_path):
    """A project whose larger study is complete."""
    shutil.copytree(larger_template, tmp_path / "project")
    return Project(tmp_path / "project")


def cases(edits):
    """Return the cases of a table as pytest takes them."""
    return [
        pytest.param(*case, id=f"{row}: {name}")
        for row, named in edits.items()
        for name, case in named.items()
    ]


@pytest.mark.parametrize(("edit", "expected", "cause"), cases(EDITS))
def test_edit(finished, edit, expected, cause):
    check_plan(finished, edit, expected, cause)


@pytest.mark.parametrize(("edit", "expected", "cause"), cases(LARGER_EDITS))
def test_edit_of_a_larger_study(larger, edit, expected, cause):
    check_plan(larger, edit, expected, cause)


def check_plan(project, edit, expected, cause):
    """Check what `make plan` says after an edit: which jobs Snakemake would do, and why."""
    environment = edit(project) or {}
    plan = project.plan(**environment)
    assert sorted(jobs_in(plan)) == sorted(expected)
    assert cause in plan
    assert "not in truth" not in plan


def test_readme_lists_what_is_tested():
    """Each row of its table is tested above."""
    section = (ROOT / "README.md").read_text().partition("## What reruns when")[2]
    rows = re.findall(r"^\| (.*?) \|", section.partition("\n## ")[0], re.MULTILINE)
    assert sorted(rows) == sorted({"you change", "---", *EDITS, *LARGER_EDITS})


def test_default_limit_would_rerun_what_uses_a_large_file(larger):
    """So the profile's limit is what keeps a touched file from counting as a changed one."""
    touch_large(larger)
    used_by = {"evaluate_transfer A 0 few-random", "evaluate_noise 0 few"}
    planned = larger.planned("--max-checksum-file-size", "1MB")
    assert planned == used_by | LARGER_SUMMARY


def test_first_run_does_everything(fresh):
    assert fresh.planned() == EVERYTHING


def test_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.make()


def test_tenth_model_computes_only_new_cells(finished):
    """Of the cells of nine models none is computed again."""

    def add(config, *names):
        for name in names:
            config["models"][name] = {
                "architecture": "softmax",
                "split": "train",
                "weight_decay": ord(name) / 1000,  # no two are the same
                "training": {"max_evaluations": 3},
            }
        config["experiments"]["pairs"]["sources"] += names

    def computed():
        logs = [path.read_text() for path in (finished.results / "logs").glob("evaluate_*/*.log")]
        counts = [re.search(r"(\d+) cells, (\d+) of them computed now", log) for log in logs]
        return [sum(int(count[group]) for count in counts) for group in (1, 2)]

    table = "results/tiny/transfer.csv"
    finished.edit_config(lambda c: add(c, *"DEFGHI"))
    finished.make(table)
    # Each pair of source and victim as found and amplified; each victim on noise and two clean
    # pools. Those of A, B and C are there from the study of three.
    assert computed() == [81 * 2 + 9 * 3, (81 - 9) * 2 + 6 * 3]
    finished.edit_config(lambda c: add(c, "J"))
    rows = {f"evaluate_transfer {model} 0 few-random" for model in "ABCDEFGHIJ"}
    attack = "generate_adversarial_set J 0 few-random"
    assert finished.planned(table) == {"train_model J 0", attack} | rows | NOISE | COLLECT
    finished.make(table)
    assert computed() == [100 * 2 + 10 * 3, (9 + 10) * 2 + 3]
    with open(finished.path / table) as file:
        assert len(list(csv.DictReader(file))) == 100 * 2 + 10 * 3


def test_dates_in_the_future_stop_nothing(finished):
    """Of all that is there, Snakemake's records and the code among it, as by a wrong clock."""
    finished.edit_config(lambda c: c["experiments"]["pairs"].update(noise=[0.1, 0.3]))
    tomorrow = time.time() + 86400
    for path in finished.path.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    assert finished.planned() == {"evaluate_noise 0 few"} | SUMMARY
    finished.make()
    assert finished.planned() == set()


def test_cells_may_be_deleted(finished):
    wanted = finished.contents()
    for path in (finished.results / "cells").iterdir():
        path.unlink()
    for path in (finished.results / "rows").rglob("*.json"):
        path.unlink()
    finished.make()
    assert finished.contents() == wanted


def test_users_attack_is_part_of_the_code(finished):
    """Its file is fingerprinted, it runs, and what it returns is measured like any other."""
    module = finished.path / "my_attacks.py"
    module.write_text(
        "def towards_grey(model, images, labels, targets, share=1.0):\n"
        "    return images + share * (0.5 - images)\n"
    )

    def use(config):
        attack = {"method": "my_attacks:towards_grey", "targets": "untargeted", "images": "few"}
        config["attacks"]["few-random"] = attack

    finished.edit_config(use)
    finished.make("results/tiny/transfer.csv", "results/tiny/engines.csv")
    with open(finished.results / "engines.csv") as file:
        assert {line["verdict"] for line in csv.DictReader(file)} == {"failed"}
    finished.edit("my_attacks.py", "share=1.0", "share=0.5")
    assert finished.planned() == ATTACK | CHECK | FROM_ATTACK


def test_best_of_tells_who_won(finished):
    """In the log, and image by image in the set."""
    members = [{"method": "ddn", "options": {"steps": 20}}, {"method": "lbfgs"}]
    attack = {"method": "best_of", "options": {"members": members}}
    finished.edit_config(lambda c: c["attacks"]["few-random"].update(attack))
    path = "adversarial/B/seed0/few-random.safetensors"
    finished.make(f"results/tiny/{path}")
    winners = load_file(finished.results / path)["winners"]
    assert set(winners.tolist()) <= {0, 1} and (winners == 1).any()
    log = finished.results / "logs/generate_adversarial_set/B-seed0-few-random.log"
    assert f"lbfgs {{}} won {100 * (winners == 1).mean():.1f} %" in log.read_text()
