"""What an experiment of kind amplification asks for, and what is told of mistakes."""

import json

import pytest

from blindspots.errors import UserError
from blindspots.study.config import validated
from blindspots.study.study import Study, columns_of_files


@pytest.fixture
def study(config, schema, reference, root):
    """The study of the digits that runs the experiment of config.yaml."""
    config |= {"study": "digits", "dataset": "digits", "run": ["amplification"], "seeds": [0, 1]}
    return lambda: Study(config, schema, reference, [str(root)])


def digests(study, rule):
    return {str(job.wildcards): job.digest for job in study.jobs if job.rule == rule}


def test_every_network_is_attacked_and_measured_with_every_seed(study):
    found = study()
    assert len(digests(found, "measure_amplification")) == 4
    assert len(digests(found, "generate_adversarial_set")) == 4
    job = found.job("measure_amplification", experiment="amplification", model="conv", seed=1)
    spec = json.loads(job.spec)
    assert spec["attack"] == {"method": "lbfgs", "targets": "random", "options": {}}
    assert (spec["jacobians"], spec["base"], spec["seed"]) == (32, "test", 1)


def test_a_label_measures_nothing_anew_and_another_count_does(study, config):
    before = study()
    config["models"]["conv"]["label"] = "Other"
    after = study()
    measured, shown = "measure_amplification", "tabulate_amplification"
    assert digests(before, measured) == digests(after, measured)
    assert digests(before, shown) != digests(after, shown)
    config["experiments"]["amplification"]["jacobians"] = 5
    again = study()
    assert digests(again, measured) != digests(after, measured)
    sets = "generate_adversarial_set"
    assert digests(again, sets) == digests(before, sets)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ["forest"]}, "amplification.models: forest has no gradient"),
        ({"models": ["cov"]}, "amplification.models: there is no model 'cov' (did you mean conv?)"),
        ({"attack": "none"}, "amplification.attack: there is no attack 'none'"),
        ({"jacobians": 0}, "amplification.jacobians must be at least 1"),
        ({"chunk": 3}, "amplification.chunk is not a known key"),
    ],
)
def test_mistakes_are_told(config, schema, reference, change, said):
    forest = "sklearn.ensemble:RandomForestClassifier"
    config["models"]["forest"] = {"estimator": forest, "split": "P1"}
    config["experiments"]["amplification"] |= change
    with pytest.raises(UserError, match="experiments") as error:
        validated(config, schema, columns_of_files(reference))
    assert said in str(error.value)
