"""Large sets in parts, and studies of hundreds of models."""

import re
from collections import Counter

from project import bundle

STUB = """
import os, sys
words = sys.orig_argv
if "--to" in words:
    for path in words[words.index("--to") + 1 :]:
        open(path, "w").close()
    os._exit(0)
"""
MANY = 200


def test_set_in_parts_is_the_set_of_one_job(finished):
    """Also where there are more parts than chunks; a part that is lost is made again."""
    wanted = finished.contents()
    finished.edit_config(lambda config: config["attacks"]["few-random"].update(parts=3))
    jobs = finished.planned()
    parts = {
        f"generate_part_of_adversarial_set {model} 0 few-random {part}"
        for model in "ABC"
        for part in range(3)
    }
    gathered = {f"gather_adversarial_set {model} 0 few-random" for model in "ABC"}
    assert {job for job in jobs if "adversarial_set" in job} == parts | gathered
    assert not {job for job in jobs if job.startswith(("prepare", "train", "check"))}
    finished.make()
    assert finished.contents() == wanted  # the parts are gone
    assert finished.planned() == set()
    done = bundle(finished)
    assert done.returncode == 0, done.stderr


def test_wrong_part_is_named(finished):
    """A part of another configuration does not get into a set."""
    finished.edit_config(lambda config: config["attacks"]["few-random"].update(parts=2))
    part = "results/tiny/adversarial/A/seed0/few-random.parts/{}.safetensors"
    finished.make("--notemp", part.format(0), part.format(1))
    first, second = (finished.path / part.format(number) for number in range(2))
    first.write_bytes(second.read_bytes())
    failed = finished.snakemake(
        "results/tiny/adversarial/A/seed0/few-random.safetensors", "--rerun-triggers", "params"
    )
    assert failed.returncode == 1
    assert f"error: {part.format(0)} was made by another configuration" in failed.stdout
    assert "Traceback" not in failed.stdout


def many_models(config):
    """Make a study of many models, every one of them source and victim."""
    names = [f"S{number:03}" for number in range(MANY)]
    config["models"] = {
        name: {"architecture": "softmax", "split": "train", "weight_decay": 1e-3} for name in names
    }
    config["experiments"]["pairs"]["sources"] = names
    config["figures"]["examples"]["distorted"]["source"] = names[0]


def test_study_of_many_models(fresh, tmp_path):
    """As many jobs of a kind as there are models, none for each pair; all of them run."""
    fresh.edit_config(many_models)
    text = fresh.make("--dry-run", "--quiet", "rules")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE))
    once = ("all", "prepare_data", "check_engines", "collect_transfer", "plot_transfer")
    once += ("plot_error_curves", "plot_distortions", "plot_adversarial_examples")
    wanted = Counter(dict.fromkeys((*once, "plot_noise_examples"), 1))
    wanted |= {"tabulate": 2, "evaluate_noise": 2}
    each = ("train_model", "generate_adversarial_set", "evaluate_transfer")
    wanted |= dict.fromkeys(each, MANY)
    wanted["total"] = sum(wanted.values())
    assert {name: int(count) for name, count in counts.items()} == wanted

    (tmp_path / "sitecustomize.py").write_text(STUB)
    fresh.make("--quiet", "all", real_steps=True, PYTHONPATH=str(tmp_path))  # which end at once
    assert len(list((fresh.results / "rows").rglob("*.json"))) == MANY + 2
    assert "Nothing to be done" in fresh.make(PYTHONPATH=str(tmp_path))
