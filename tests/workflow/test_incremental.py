"""What reruns when: after each kind of edit, exactly the jobs that depend on it."""

import csv
import random

import pytest
import yaml
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
GRIDS = {"plot_adversarial_examples distorted", "plot_noise_examples noisy"}
SUMMARY = COLLECT | TABLES | FROM_TABLE
FIGURES = FROM_TABLE | FROM_SETS | GRIDS
EVERYTHING = DATA | TRAIN | ATTACK | CHECK | ROWS | NOISE | COLLECT | TABLES | FIGURES


def of(jobs, *names):
    """Return the jobs of some models."""
    return {job for job in jobs if job.split()[1] in names}


def test_first_run_does_everything(fresh):
    assert fresh.planned() == EVERYTHING


def test_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.make()


# Each edit of the configuration, and the jobs that it must cause.
CONFIG_EDITS = {
    "weight decay of one model": (
        lambda c: c["models"]["B"].update(weight_decay=1.0e-3),
        of(TRAIN, "B") | of(ATTACK, "B") | ROWS | NOISE | SUMMARY | FROM_SETS,
    ),
    "training of all models": (
        lambda c: c["training"].update(tolerance=1.0e-3),
        EVERYTHING - DATA - CHECK - {"plot_noise_examples noisy"},
    ),
    "label of a model": (
        lambda c: c["models"]["B"].update(label="Bee"),
        TABLES | FROM_TABLE | FROM_SETS,
    ),
    "description of a model": (
        lambda c: c["models"]["B"].update(description="changed"),
        TABLES,
    ),
    "a model that no experiment uses": (
        lambda c: c["models"].update(D={"architecture": "softmax", "split": "train"}),
        set(),
    ),
    "a new source": (
        lambda c: (
            c["models"].update(D={"architecture": "softmax", "split": "P1"}),
            c["experiments"]["pairs"]["sources"].append("D"),
        ),
        {"train_model D 0", "generate_adversarial_set D 0 few-random"}
        | {"evaluate_transfer D 0 few-random"}
        | ROWS
        | NOISE
        | SUMMARY
        | FROM_SETS,
    ),
    "a victim-only model": (
        lambda c: (
            c["models"].update(D={"architecture": "softmax", "split": "P1"}),
            c["experiments"]["pairs"].update(victims=["A", "B", "C", "D"]),
        ),
        {"train_model D 0"} | ROWS | NOISE | SUMMARY,
    ),
    "a removed source": (
        lambda c: c["experiments"]["pairs"].update(sources=["A", "B"]),
        of(ROWS, "A", "B") | NOISE | SUMMARY | FROM_SETS,
    ),
    "noise levels": (
        lambda c: c["experiments"]["pairs"].update(noise=[0.1, 0.3]),
        {"evaluate_noise 0 few"} | SUMMARY,
    ),
    "amplification levels": (
        lambda c: c["experiments"]["pairs"].update(amplify=[0.2, 0.3]),
        ROWS | SUMMARY,
    ),
    "an option of the attack": (
        lambda c: c["attacks"]["few-random"].update(options={"pairs": 5}),
        ATTACK | CHECK | ROWS | SUMMARY | FROM_SETS | {"plot_adversarial_examples distorted"},
    ),
    "the method of the attack": (
        lambda c: c["attacks"]["few-random"].update(method="ddn"),
        ATTACK | CHECK | ROWS | SUMMARY | FROM_SETS | {"plot_adversarial_examples distorted"},
    ),
    "the number of images attacked": (
        lambda c: c["splits"]["parts"]["few"].update(range=[0, 100]),
        ATTACK | ROWS | {"evaluate_noise 0 few"} | SUMMARY | FROM_SETS | GRIDS,
    ),
    "caption of a table": (
        lambda c: c["tables"]["summary"].update(caption="Changed"),
        {"tabulate summary"},
    ),
    "two values swapped": (
        lambda c: c["models"].update(
            B={**c["models"]["B"], "split": "P2"}, C={**c["models"]["C"], "split": "P1"}
        ),
        of(TRAIN, "B", "C") | of(ATTACK, "B", "C") | ROWS | NOISE | SUMMARY | FROM_SETS,
    ),
    "a second seed": (
        lambda c: c.update(seeds=[0, 1]),
        {job.replace(" 0", " 1") for job in TRAIN | ATTACK | ROWS | NOISE} | SUMMARY | FROM_SETS,
    ),
}


@pytest.mark.parametrize("edit", CONFIG_EDITS)
def test_config_edit(finished, edit):
    change, expected = CONFIG_EDITS[edit]
    finished.edit_config(change)
    assert sorted(finished.planned()) == sorted(expected)


def test_order_of_keys_and_comments(finished):
    """Order carries meaning in lists alone; comments never do."""

    def shuffled(value):
        if isinstance(value, dict):
            items = sorted(value.items(), key=lambda item: random.Random(str(item[0])).random())
            return {key: shuffled(item) for key, item in items}
        return value

    config = shuffled(yaml.safe_load(finished.config.read_text()))
    text = yaml.safe_dump(config, sort_keys=False)
    finished.config.write_text(f"# a comment\n{text}")
    assert finished.planned() == set()


# Each edit of the code, and the jobs that it must cause.
ATTACK_CODE = ATTACK | CHECK | ROWS | SUMMARY | FROM_SETS
ATTACK_CODE |= {"plot_adversarial_examples distorted"}
CODE_EDITS = {
    "the attack": ("attacks/lbfgs.py", "TOLERANCE = 1e-2", "TOLERANCE = 2e-2", ATTACK_CODE),
    "a comment in the attack": ("attacks/lbfgs.py", "TOLERANCE", "# a comment\nTOLERANCE", set()),
    "a docstring of the attack": (
        "attacks/lbfgs.py",
        "Find the smallest perturbation",
        "Find a smallest perturbation",
        set(),
    ),
    "the optimiser": (
        "optim/lbfgs_memory.py",
        "self.count += 1",
        "self.count += 1 + 0",
        ATTACK_CODE,
    ),
    "training": (
        "models/training.py",
        "EVALUATIONS_BETWEEN_TESTS = 20",
        "EVALUATIONS_BETWEEN_TESTS = 10",
        EVERYTHING - DATA - CHECK - {"plot_noise_examples noisy"},
    ),
    "the check of the engines": (
        "attacks/selfcheck.py",
        "ALLOWED_EXCESS = 0.01",
        "ALLOWED_EXCESS = 0.02",
        CHECK,
    ),
    "evaluation": (
        "evaluation/transfer.py",
        "success = np.ones(len(labels), bool) if success is None else success",
        "success = np.full(len(labels), True) if success is None else success",
        ROWS | NOISE | SUMMARY,
    ),
    "a table": ("summary/tables.py", 'PRINTED = "_printed"', 'PRINTED = "_print"', TABLES),
}


@pytest.mark.parametrize("edit", CODE_EDITS)
def test_code_edit(finished, edit):
    file, old, new, expected = CODE_EDITS[edit]
    finished.edit(f"src/blindspots/{file}", old, new)
    assert sorted(finished.planned()) == sorted(expected)


def test_users_module_is_part_of_the_code(finished):
    module = finished.path / "my_networks.py"
    module.write_text(
        "from torch import nn\n\n\ndef small(shape, classes, width=4):\n"
        "    size = shape[0] * shape[1] * shape[2]\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.Tanh(),"
        " nn.Linear(width, classes))\n"
    )

    def use(config):
        config["models"]["D"] = {
            "architecture": "my_networks:small",
            "options": {"width": 6},
            "split": "train",
        }
        config["experiments"]["pairs"]["victims"] = ["A", "B", "C", "D"]

    finished.edit_config(use)
    finished.make("results/tiny/transfer.csv")
    cells = list(csv.DictReader((finished.results / "transfer.csv").read_text().splitlines()))
    assert len([cell for cell in cells if cell["victim"] == "D"]) == 3 * 2 + 1 + 2
    rest = finished.planned()
    finished.edit("my_networks.py", "nn.Tanh()", "nn.Sigmoid()")
    affected = {"train_model D 0"} | ROWS | NOISE | SUMMARY
    assert finished.planned() == rest | affected
    finished.edit("my_networks.py", "from torch", "# a comment\nfrom torch")
    assert finished.planned() == rest | affected


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
    affected = ATTACK | CHECK | ROWS | SUMMARY | FROM_SETS
    affected |= {"plot_adversarial_examples distorted"}
    assert finished.planned() == affected
    finished.make("results/tiny/transfer.csv", "results/tiny/engines.csv")
    with open(finished.results / "engines.csv") as file:
        assert {line["verdict"] for line in csv.DictReader(file)} == {"failed"}
    finished.edit("my_attacks.py", "share=1.0", "share=0.5")
    assert finished.planned() >= ATTACK | CHECK | ROWS | COLLECT


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


def test_touch_reruns_nothing(finished):
    for path in finished.results.rglob("*.safetensors"):
        path.touch()
    assert finished.planned() == set()


def test_new_model_computes_only_new_cells(finished):
    """Of the cells of old rows only those of the new victim are computed."""
    before = {path.name for path in (finished.results / "cells").iterdir()}

    def add(config):
        config["models"]["D"] = {"architecture": "softmax", "split": "P1"}
        config["experiments"]["pairs"]["victims"] = ["A", "B", "C", "D"]

    finished.edit_config(add)
    finished.make("results/tiny/transfer.csv")
    after = {path.name for path in (finished.results / "cells").iterdir()}
    assert before < after
    # D sees three sets in two variants, one level of noise, and two pools of clean images.
    assert len(after - before) == 3 * 2 + 1 + 2


def test_cells_may_be_deleted(finished):
    wanted = finished.contents()
    for path in (finished.results / "cells").iterdir():
        path.unlink()
    for path in (finished.results / "rows").rglob("*.json"):
        path.unlink()
    finished.make()
    assert finished.contents() == wanted
