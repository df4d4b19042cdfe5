"""A user's mistakes are answered with one sentence, exit code 1, and nothing written."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml
from project import Project

MISTAKES = {
    "unknown model": (
        lambda c: c["experiments"]["pairs"].update(sources=["A", "Bb"]),
        "there is no model 'Bb' (did you mean B?)",
    ),
    "unknown key": (
        lambda c: c["models"]["B"].update(weight_dekay=1),
        "models.B.weight_dekay is not a known key (did you mean weight_decay?)",
    ),
    "overlapping halves": (
        lambda c: c["splits"]["parts"]["P2"].update(share=[0.4, 1.0]),
        "P1 and P2 share",
    ),
    "attack that is nowhere": (
        lambda c: c["attacks"]["few-random"].update(method="no_such_module:attack"),
        "no Python file no_such_module.py for 'no_such_module:attack'",
    ),
    "option of another attack": (
        lambda c: c["attacks"]["few-random"].update(options={"gamma": 0.1}),
        "attacks.few-random.options.gamma is not a known key",
    ),
    "number read as text": (
        lambda c: c["models"]["B"].update(weight_decay="1e-3"),
        "write 1.0e-3",
    ),
    "study name with a slash": (
        lambda c: c.update(study="a/b"),
        "'a/b' may hold only letters",
    ),
}


def told_and_nothing_written(project, sentence, *arguments):
    """Run a project with a mistake that is found before anything runs."""
    done = project.snakemake(*arguments)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.path / "results").exists()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_configuration(fresh, mistake):
    change, sentence = MISTAKES[mistake]
    fresh.edit_config(change)
    told_and_nothing_written(fresh, sentence)


def test_a_plan_tells_the_mistake_alone(fresh):
    """Without the line of our own file that hands it on to Snakemake."""
    change, sentence = MISTAKES["unknown model"]
    fresh.edit_config(change)
    done = subprocess.run(
        [sys.executable, "-m", "blindspots.study.explain"],
        cwd=fresh.path,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    first, *mistakes = done.stderr.splitlines()
    assert first == "error: snakemake cannot plan the study: the configuration has a mistake:"
    assert mistakes == [f"  - experiments.pairs.sources: {sentence}"]


# What a file holds that is no configuration, by itself or behind a right one. Snakemake reads it
# and tells all but the first.
TEXTS = {
    "repeated key": (b"chunk: 5\n", ": chunk is given a second time; rename"),
    "not closed": (b"a: [1\n", "is not valid JSON or YAML"),
    "bytes that are no text": (b"# \xff\n", "'utf-8' codec can't decode byte 0xff"),
}


@pytest.mark.parametrize("mistake", TEXTS)
def test_mistake_in_the_file(fresh, mistake):
    content, sentence = TEXTS[mistake]
    with fresh.config.open("ab") as stream:
        stream.write(content)
    told_and_nothing_written(fresh, sentence)


@pytest.mark.parametrize("suffix", ["json", "txt"])
def test_repeated_key_in_json(fresh, suffix):
    """With tabs, which YAML would not read."""
    (fresh.path / f"my.{suffix}").write_text('{"splits":\t{"seed": 1,\n\t"seed": 2}}')
    sentence = f"my.{suffix}: splits.seed is given a second time; rename or remove one of the two"
    told_and_nothing_written(fresh, sentence, "--configfile", f"my.{suffix}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("study: other\n", "studies/foo.yaml names its study 'other'; write `study: foo` in it"),
        ("seeds: [1]\n", "studies/foo.yaml does not name its study, which would overwrite another"),
    ],
)
def test_study_that_is_not_named_like_its_file(fresh, content, sentence):
    (fresh.path / "studies/foo.yaml").write_text(content)
    told_and_nothing_written(fresh, sentence, "--configfile", "studies/foo.yaml")


def test_file_that_changes_a_study(fresh):
    """Behind that of the study, and one that lies elsewhere."""
    (fresh.path / "studies/part.yaml").write_text("seeds: [1]\n")
    (fresh.path / "studies/foo.yaml").write_text("study: foo\n")
    (fresh.path / "mine.yaml").write_text("study: mine\n")
    files = ("studies/part.yaml", "studies/foo.yaml", "mine.yaml")
    assert "results/mine/" in fresh.make("--dry-run", "--configfile", *files)


def test_numbers_in_a_list_on_the_command_line(fresh):
    sentence = "write seeds into a YAML file, and name that behind --configfile"
    told_and_nothing_written(fresh, sentence, "--config", "seeds=[1, 2]")
    (fresh.path / "mine.yaml").write_text("seeds: [1, 2]\n")
    assert "seed2" in fresh.make("--dry-run", "--configfile", "mine.yaml")


def test_empty_file(fresh):
    fresh.config.write_text("")
    told_and_nothing_written(fresh, "must be given as JSON or YAML with keys at top level")


def test_file_in_the_place_of_the_results(fresh):
    (fresh.path / "results").write_text("")
    done = fresh.snakemake()
    assert done.returncode == 1
    assert "results is a file where a folder of results should be; move it away" in done.stdout
    assert "Traceback" not in done.stdout
    assert (fresh.path / "results").read_text() == ""


def test_odd_characters_in_the_data_root(fresh):
    """They are neither run by the shell nor formatted by Snakemake."""
    root = "a'b \"$(touch made) {x}"
    fresh.edit_config(lambda c: c.update(dataset="mnist", download=False, data_root=root))
    done = fresh.snakemake("results/tiny/data.safetensors", BLINDSPOTS_DATA="")
    assert done.returncode == 1
    assert f"error: {root}/MNIST/raw/train-images-idx3-ubyte is missing" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.path / "made").exists()


def test_odd_characters_in_the_path_of_the_checkout(finished, tmp_path):
    path = tmp_path / "a'b \"$(touch made)"
    finished.path.rename(path)
    moved = Project(path)
    (moved.results / "tables/summary.csv").unlink()
    moved.make()
    assert "Nothing to be done" in moved.make()
    assert not (path / "made").exists()
    for name, sentence in {
        "{x}": "{x} holds braces, which Snakemake takes for wildcards; rename it",
        "a:b": "a:b holds a colon, at which PATH and PYTHONPATH are cut; rename it",
        "\udcff": r"\udcff' holds bytes that are not UTF-8; rename it",
    }.items():
        path = path.rename(tmp_path / name)
        done = Project(path).snakemake()
        assert done.returncode == 1
        assert sentence in done.stdout
    done = subprocess.run(["make", "plan"], cwd=path.rename(tmp_path / "c:d"), capture_output=True)
    assert done.returncode == 2
    assert b"c:d holds a colon, at which PATH and PYTHONPATH are cut; rename it" in done.stderr


@pytest.mark.skipif(find_spec("adv_lib") is not None, reason="adv-lib is installed")
def test_library_that_is_not_installed(fresh):
    fresh.edit_config(lambda c: c["attacks"]["few-random"].update(method="adv-lib:ddn"))
    told_and_nothing_written(
        fresh, "adv-lib:ddn needs adv-lib, which is not installed; envs/peers.txt says"
    )


def test_option_that_a_users_attack_does_not_take(finished):
    """Known only when the attack is called: told in its log, and nothing written."""
    (finished.path / "my_attacks.py").write_text(
        "def attack(model, images, labels, targets, size=1):\n    return images\n"
    )
    method = {"method": "my_attacks:attack", "options": {"sise": 2}}
    finished.edit_config(lambda c: c["attacks"]["few-random"].update(method))
    output = "adversarial/A/seed0/few-random.safetensors"
    done = finished.snakemake(f"results/tiny/{output}")
    assert done.returncode == 1
    assert "error: my_attacks:attack has no option 'sise'" in done.stdout
    assert "Traceback" not in done.stdout


def test_network_whose_answers_are_noise(fresh):
    """Refused before it is trained, in a sentence that says what differs."""
    (fresh.path / "my_networks.py").write_text(
        "from torch import nn\n\n"
        "class Noisy(nn.Linear):\n"
        "    def forward(self, images):\n"
        "        return super().forward(nn.functional.dropout(images.flatten(1), 0.1))\n\n"
        "def noisy(shape, classes):\n"
        "    return Noisy(shape[1] * shape[2], classes)\n"
    )
    own = {"architecture": "my_networks:noisy", "split": "train"}
    fresh.edit_config(lambda c: c["models"].update(A=own))
    done = fresh.snakemake("results/tiny/models/A/seed0.safetensors")
    assert done.returncode == 1
    assert "my_networks:noisy answers the same images differently in two passes" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.results / "models/A").exists()


def test_attack_that_changes_its_labels_has_failed(finished):
    """What it is judged by is not what it was given."""
    (finished.path / "my_attacks.py").write_text(
        "def attack(model, images, labels, targets):\n"
        "    model.train()\n"
        "    labels.add_(1).remainder_(10)\n"
        "    targets.copy_(model(images).argmax(1))\n"
        "    return images\n"
    )
    finished.edit_config(lambda c: c["attacks"]["few-random"].update(method="my_attacks:attack"))
    row = "rows/A/seed0/few-random.json"
    finished.make(f"results/tiny/{row}")
    for cell in json.loads((finished.results / row).read_text())["rows"]:
        assert cell["n_failed"] == cell["n_attacked"] > 0
        assert cell["n_fooled"] == cell["error"] == 0


def test_missing_data_names_the_file_and_the_ways_out(fresh, tmp_path):
    config = yaml.safe_load(fresh.config.read_text())
    config.update(dataset="mnist", download=False)
    fresh.config.write_text(yaml.safe_dump(config))
    done = fresh.snakemake(BLINDSPOTS_DATA=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/MNIST/raw/train-images-idx3-ubyte is missing" in done.stdout
    assert "BLINDSPOTS_DATA" in done.stdout
    assert "STUDY=digits" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.results / "data.safetensors").exists()


def test_capped_threads_are_said_in_the_log(fresh):
    fresh.edit_config(lambda c: c["threads"].update(train=2))
    fresh.make("results/tiny/models/A/seed0.safetensors", cores=1)
    log = (fresh.results / "logs/train_model/A-seed0.log").read_text()
    assert "threads were capped at 1 of 2" in log
