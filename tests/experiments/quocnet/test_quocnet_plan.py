"""Jobs of detectors, and what is wrong with a configuration, told before anything runs."""

import json
from copy import deepcopy

import pytest

from blindspots.errors import UserError
from blindspots.study.study import Study

STAGES = [{"filters": 8, "kernel": 3, "pool": 2, "stride": 2}]
DETECTORS = {
    "study": "tiny",
    "dataset": "digits",
    "splits": {
        "parts": {
            "eights": {"of": "train", "share": [0.0, 1.0], "detect": 8},
            "eights-test": {"of": "test", "share": [0.0, 1.0], "detect": 8},
            "eights-few": {"of": "test", "share": [0.0, 1.0], "detect": 8, "each": 20},
            "threes": {"of": "test", "share": [0.0, 1.0], "detect": 3},
            "plain": {"of": "test", "share": [0.0, 0.5]},
        }
    },
    "models": {
        "quoc": {"features": "rica", "stages": STAGES, "split": "eights"},
        "drawn": {"features": "random", "stages": STAGES, "split": "eights"},
        "pixels": {"features": "pixels", "split": "eights"},
        "digits": {"architecture": "softmax", "split": "train"},
        "linear": {"architecture": "softmax", "split": "eights"},
    },
    "attacks": {
        "eights": {"method": "ddn", "targets": "untargeted", "images": "eights-few"},
        "plain": {"method": "ddn", "targets": "untargeted", "images": "plain"},
    },
    "experiments": {
        "detectors": {
            "kind": "quocnet",
            "models": ["quoc", "drawn", "pixels"],
            "attack": "eights",
            "images": "eights-test",
        }
    },
}


@pytest.fixture
def study_of(schema, reference, tmp_path):
    """Return the function from a change of the configuration to its study."""

    def study(**changes):
        config = deepcopy(DETECTORS)
        for place, value in changes.items():
            *path, last = place.split("__")
            target = config
            for key in path:
                target = target[key]
            target[last] = value
        return Study(config, schema, reference, [str(tmp_path)])

    return study


def spec_of(study, rule, **wildcards):
    return json.loads(study.job(rule, **wildcards).spec)


def test_jobs_are_made_of_models_and_sets(study_of):
    study = study_of(seeds=[0, 1])
    counts = {}
    for job in study.jobs:
        counts[job.rule] = counts.get(job.rule, 0) + 1
    assert counts == {
        "prepare_data": 1,
        "train_model": 6,
        "generate_adversarial_set": 6,
        "check_engines": 1,
        "measure_detector": 6,
        "tabulate_detectors": 1,
        "plot_detectors": 1,
        "plot_detector_examples": 1,
    }


def test_the_class_is_part_of_what_a_model_learns(study_of):
    study = study_of()
    split = spec_of(study, "train_model", model="quoc", seed=0)["split"]
    assert split == {"of": "train", "share": [0.0, 1.0], "detect": 8, "seed": 0}
    spec = spec_of(study, "generate_adversarial_set", model="quoc", attack="eights", seed=0)
    assert (spec["images"]["detect"], spec["images"]["each"]) == (8, 20)
    tabulated = spec_of(study, "tabulate_detectors", experiment="detectors")
    assert tabulated["data"] == "UCI digits, 8"
    assert tabulated["directions"] == ["not 8 -> 8", "8 -> not 8"]


def test_other_splits_are_described_as_ever(study_of):
    study = study_of(models__digits__split="plain")
    assert study.split("plain") == {"of": "test", "share": [0.0, 0.5], "seed": 0}
    assert study.split("test") == {"of": "test"}


def test_a_label_makes_no_model_anew(study_of):
    one, other = study_of(), study_of(models__quoc__label="QuocNet")
    for rule in ("train_model", "generate_adversarial_set", "measure_detector"):
        pairs = [[job.digest for job in study.jobs if job.rule == rule] for study in (one, other)]
        assert pairs[0] == pairs[1]
    specs = [spec_of(study, "tabulate_detectors", experiment="detectors") for study in (one, other)]
    assert specs[0] != specs[1]


def test_detectors_are_sources_and_victims_like_any_other(study_of):
    """Of transfer, and of storage; a softmax learns to detect, too."""
    study = study_of(
        experiments__across={
            "attack": "eights",
            "sources": ["quoc", "linear"],
            "victims": ["quoc", "linear", "drawn"],
            "clean": ["eights-test"],
            "stored": [{"as": "png"}],
        },
        figures={"examples": {"grid": {"attack": "eights", "source": "quoc"}}},
    )
    rules = {job.rule for job in study.jobs}
    assert {"evaluate_transfer", "tabulate_storage", "measure_detector"} <= rules
    assert spec_of(study, "plot_adversarial_examples", grid="grid")["detect"] == 8


ENTRY = "experiments__detectors__"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({f"{ENTRY}models": ["quoc", "pixels"]}, "beside quoc there must be one with random"),
        ({f"{ENTRY}models": ["quoc", "drawn"]}, "one with features: pixels must be among them"),
        ({f"{ENTRY}models": ["pixels", "linear"]}, "linear has no `features`; take it out"),
        ({f"{ENTRY}models": ["pixels", "qouc"]}, "there is no model 'qouc'"),
        ({f"{ENTRY}images": "plain"}, "plain has no `detect`"),
        ({f"{ENTRY}images": "test"}, "test has no `detect`"),
        ({f"{ENTRY}images": "nowhere"}, "there is no split 'nowhere'"),
        ({f"{ENTRY}images": "threes"}, "pixels tells class 8 from all others, and the labels of"),
        ({f"{ENTRY}images": "threes"}, "attacks images of eights-few, which detects another"),
        (
            {"splits__parts__eights-test__of": "train"},
            "1297 images of eights-test are among those that quoc is made from",
        ),
        ({f"{ENTRY}attack": "plain"}, "attacks images of plain, which detects another"),
        ({"attacks__eights__targets": "random"}, "of two classes one is wrong; write targets"),
        ({"splits__parts__eights__detect": 10}, "UCI digits has no class 10, only 0 to 9"),
        ({"splits__parts__eights__detect": "eight"}, "UCI digits has no class 'eight'"),
        ({"splits__parts__plain__each": 3}, "splits.parts.plain.each goes with detect"),
        ({"models__pixels__stages": STAGES}, "models.pixels.stages: pixels pass no stage"),
        (
            {"models__drawn": {"features": "random", "split": "eights"}},
            "models.drawn.stages is missing",
        ),
        (
            {"models__quoc__stages": [*STAGES, {"kernel": 4, "pool": 1}]},
            "models.quoc.stages[1].kernel: 4x4 is more than the 3x3 that are left there",
        ),
        ({"models__quoc__stages": [{"kernal": 3}]}, "kernal"),
    ],
)
def test_mistakes_are_told_in_a_sentence(study_of, changes, sentence):
    with pytest.raises(UserError) as caught:
        study_of(**changes)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("split", ["train", "plain", "nowhere"])
def test_one_mistake_about_images_is_one_sentence(study_of, split):
    with pytest.raises(UserError, match="has a mistake") as caught:
        study_of(**{f"{ENTRY}images": split})
    assert ("there is no split" in str(caught.value)) == (split == "nowhere")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"sources": ["digits"]}, "digits tells the class, and the labels of eights-few tell"),
        ({"sources": ["quoc"], "victims": ["digits"]}, "victims: digits tells the class"),
        ({"sources": ["quoc"], "clean": ["plain"]}, "the labels of plain are others than those"),
        ({"attack": "plain", "sources": ["quoc"]}, "and the labels of plain tell the class"),
    ],
)
def test_transfer_keeps_to_one_meaning_of_labels(study_of, entry, sentence):
    with pytest.raises(UserError) as caught:
        study_of(experiments__across={"attack": "eights", **entry})
    assert sentence in str(caught.value)
