"""What an experiment of kind minimum asks for, and what is told of mistakes."""

import json

import pytest

from blindspots.errors import UserError
from blindspots.study.config import validated
from blindspots.study.study import Study, columns_of_files


@pytest.fixture
def study(config, schema, reference, root, monkeypatch):
    """The study of the digits that runs the experiment of config.yaml."""
    config |= {"study": "digits", "dataset": "digits", "run": ["storage", "minimum"]}
    config["experiments"]["storage"]["sources"] = ["M1", "M2"]
    return lambda: Study(config, schema, reference, [str(root)])


def test_it_shows_sets_and_rows_and_makes_none(study):
    found = study()
    rules = [job.rule for job in found.jobs]
    assert rules.count("generate_adversarial_set") == rules.count("plot_minimum") == 2
    job = found.job("tabulate_minimum", experiment="minimum")
    made = [(j.rule, j.wildcards["model"]) for j in job.inputs["sets_and_rows"]]
    assert made == [
        *(("generate_adversarial_set", "M1"), ("evaluate_transfer", "M1")),
        *(("generate_adversarial_set", "M2"), ("evaluate_transfer", "M2")),
    ]
    assert json.loads(job.spec)["stored"] == "stored_png"


def test_a_label_is_shown_and_measures_nothing_anew(study, config):
    before = study()
    config["models"]["M2"]["label"] = "other"
    after = study()
    for rule, same in (("evaluate_transfer", True), ("tabulate_minimum", False)):
        digests = [
            [job.digest for job in s.jobs if job.rule == rule and "M1" not in str(job.wildcards)]
            for s in (before, after)
        ]
        assert digests[0] and (digests[0] == digests[1]) == same


def test_fewer_images_are_another_set_and_all_of_them_are_not(study, config):
    """Sets of configurations that do not say `most` keep their specification."""
    plain = study().set("M1", "test-random", 0)
    assert "most" not in json.loads(plain.spec)["attack"]
    config["attacks"]["test-random"]["most"] = 64
    assert json.loads(study().set("M1", "test-random", 0).spec)["attack"]["most"] == 64


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transfers": ["frames"]}, "minimum.transfers: frames is not of kind transfer"),
        ({"transfers": ["storag"]}, "minimum.transfers: there is no experiment 'storag'"),
        ({"transfers": ["cross_model"]}, "minimum.transfers: add {as: png} to experiments.cross"),
        ({"transfers": []}, "minimum.transfers is empty"),
        ({"rows": 99}, "minimum.rows must be at most 8"),
    ],
)
def test_mistakes_are_told(config, schema, reference, change, said):
    config["experiments"]["minimum"] |= change
    with pytest.raises(UserError, match="experiments") as error:
        validated(config, schema, columns_of_files(reference))
    assert said in str(error.value)


def test_an_experiment_that_is_not_run_has_nothing_to_show(config, schema, reference):
    config["run"] = ["minimum"]
    with pytest.raises(UserError, match="storage is not run; add it to run"):
        validated(config, schema, columns_of_files(reference))
