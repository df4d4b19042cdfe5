"""Jobs of kind units, and what is wrong with an entry of a configuration."""

import pytest
import torch

from blindspots.errors import UserError
from blindspots.models.networks import build_network
from blindspots.study.study import Study


@pytest.fixture
def study_of(config, schema, reference, tmp_path, monkeypatch):
    """Return the function from an experiment of kind units to its study."""
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))
    network = build_network({"kind": "mlp", "widths": [5]} | SIGMOID, (1, 8, 8), 10, seed=0)
    torch.save(network.state_dict(), tmp_path / "given.pt")
    del config["run"]
    config["dataset"] = "digits"
    config["splits"]["parts"]["few"] = {"of": "test", "range": [0, 19]}
    given = {"architecture": "mlp", "widths": [5], "weights": "given.pt"}
    config["models"] |= {
        "given": given,
        "other": given | {"label": "Other"},
        "svm": {"estimator": "sklearn.svm:SVC", "split": "P1"},
        "large": {"architecture": "conv", "channels": [2], "units": 3, "weights": "given.pt"}
        | {"shape": [3, 32, 32]},
    }

    def study(**entry):
        return Study(
            {**config, "run": ["look"], "experiments": {"look": {"kind": "units", **entry}}}
            | {"tables": {}, "figures": {"examples": {}}},
            schema,
            reference,
            [str(tmp_path)],
        )

    return study


SIGMOID = {"activation": "sigmoid"}


def measured(study):
    """Return the models of each job that measures: tested and reference, with their seeds."""

    def named(job):
        return job.wildcards["model"], job.wildcards["seed"]

    jobs = [job for job in study.jobs if job.rule == "measure_units"]
    return {named(job.inputs["model"]): named(job.inputs["reference"]) for job in jobs}


def test_the_reference_of_a_model_with_seeds_is_its_next_seed(study_of):
    found = measured(study_of(models=["M1"], seeds=[3, 0, 7]))
    assert found == {("M1", 3): ("M1", 0), ("M1", 0): ("M1", 7), ("M1", 7): ("M1", 3)}


def test_the_reference_of_a_model_without_is_the_next_one(study_of):
    found = measured(study_of(models=["given", "M1", "other"]))
    assert found == {("given", 0): ("M1", 0), ("M1", 0): ("other", 0), ("other", 0): ("given", 0)}


def test_seeds_of_an_experiment_leave_others_alone(study_of):
    """Of a file of weights there is one network, whatever the seeds."""
    study = study_of(models=["paper_conv", "given"], seeds=[5, 6])
    found = measured(study)
    assert found.keys() == {("paper_conv", 5), ("paper_conv", 6), ("given", 0)}
    assert found["given", 0] == ("paper_conv", 5)
    assert study.seeds == [0]


def test_an_experiment_asks_for_table_and_figures(study_of):
    study = study_of(models=["M1", "M2"])
    made = {path for job in study.jobs for path in job.paths if "units" in path or "top" in path}
    assert made == {
        *(f"units/look/{model}/seed0.safetensors" for model in ("M1", "M2")),
        *(f"units/look.{suffix}" for suffix in ("csv", "md", "html")),
        *(f"figures/units/look.{suffix}" for suffix in ("svg", "pdf")),
        *(
            f"figures/top_images/look/{m}.{suffix}"
            for m in ("M1", "M2")
            for suffix in ("png", "pdf")
        ),
    }


def test_more_bases_change_no_model(study_of):
    few, many = (study_of(models=["M1", "M2"], bases=bases) for bases in (199, 999))
    assert few.model("M1", 0).digest == many.model("M1", 0).digest
    wildcards = {"experiment": "look", "model": "M1", "seed": 0}
    assert (
        few.job("measure_units", **wildcards).digest
        != many.job("measure_units", **wildcards).digest
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"models": ["M3", "M1"]}, "experiments.look.models: there is no model 'M3'"),
        ({"models": ["svm", "M1"]}, "models: svm is no network, so it has no units; take it out"),
        ({"models": ["softmax1", "M1"]}, "softmax1 has no hidden layer; take it out"),
        ({"models": ["large", "M1"]}, r"large takes images of shape \(3, 32, 32\)"),
        ({"models": ["M1"]}, "M1 is alone with one seed"),
        ({"models": ["given"], "seeds": [0, 1]}, "given is alone, .* add a model"),
        ({"models": ["M1", "M2"], "images": "some"}, "there is no split 'some'"),
        ({"models": ["M1", "M2"], "images": "few"}, "few has fewer than 20 images"),
        ({"models": ["M1", "M2"], "bases": 18}, "bases"),
        ({"models": ["M1", "M2"], "seeds": [-1]}, "seeds"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(study_of, entry, sentence):
    with pytest.raises(UserError, match=sentence):
        study_of(**entry)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kernel": 4}, "kernel"),
        ({"dropout": 1}, "dropout"),
    ],
)
def test_filters_and_dropout_within_bounds(config, study_of, change, sentence):
    config["models"]["paper_conv"] |= change
    with pytest.raises(UserError, match=f"models.paper_conv.{sentence}"):
        study_of(models=["M1", "M2"])


@pytest.mark.parametrize("key", ["kernel", "dropout"])
def test_they_go_with_convolutions_alone(config, study_of, key):
    config["models"]["M1"][key] = {"kernel": 5, "dropout": 0.5}[key]
    with pytest.raises(UserError, match=f"models.M1.{key} does not go with architecture mlp"):
        study_of(models=["M1", "M2"])


def test_a_conv_without_them_is_described_as_before(study_of):
    spec = study_of(models=["conv", "M1"]).model("conv", 0).spec
    assert '"architecture":{"channels":[16,32],"kind":"conv","units":64}' in spec
