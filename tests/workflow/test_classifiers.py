"""A study with classifiers of scikit-learn: a linear one that is attacked, others as victims."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from blindspots.artifacts import read_header, write_tensors

SVC = {"estimator": "sklearn.svm:SVC", "options": {"C": 10}, "split": "train"}


def use(config):
    """One network beside a linear classifier, an SVC, and one that a user's function makes."""
    models = {name: config["models"][name] for name in "A"}
    models["linear"] = {"estimator": "sklearn.svm:LinearSVC", "options": {"C": 0.1}, "split": "P1"}
    models["svm"] = SVC
    models["own"] = {
        "estimator": "my_estimators:forest",
        "options": {"trees": 3},
        "split": "P1",
    }
    config["models"] = models
    config["attacks"]["few-random"]["targets"] = "nearest"
    config["experiments"]["pairs"] |= {"sources": ["A", "linear"], "victims": [*models]}
    config["experiments"]["bounds"] = {"kind": "frames", "models": ["A", "linear"]}
    config["run"] = ["pairs"]
    config["tables"], config["figures"]["examples"] = {}, {}


@pytest.fixture
def classifiers(fresh):
    (fresh.path / "my_estimators.py").write_text(
        "from sklearn.ensemble import RandomForestClassifier\n\n\n"
        "def forest(trees):\n"
        "    return RandomForestClassifier(trees)\n"
    )
    fresh.edit_config(use)
    return fresh


def trained(planned):
    """Return those of some jobs that make models and sets."""
    return {job for job in planned if job.startswith(("train", "generate"))}


def test_whole_study(classifiers):
    """Rows of every victim, certificates of the linear source, and what an edit reruns."""
    classifiers.make()
    models = classifiers.results / "models"
    cells = (classifiers.results / "transfer.csv").read_text()
    for source in ("A", "linear"):
        for victim in ("A", "linear", "svm", "own"):
            for variant in ("as_found", "amplified"):
                assert f"{source},{victim},0,0,few-random,{variant}" in cells
    found = load_file(classifiers.results / "adversarial/linear/seed0/few-random.safetensors")
    assert found["success"].all() and (found["kkt_residual"] < 1e-5).all()
    about = read_header(models / "linear/seed0.safetensors")
    assert about["network"]["architecture"] == {"kind": "softmax"}
    assert "skops" not in about["spec"]["versions"]
    about = read_header(models / "svm/seed0.safetensors")
    assert {"scikit-learn", "scipy", "skops"} < about["spec"]["versions"].keys()
    assert about["training"]["error"] < 0.05 and len(about["training"]["support_vectors"]) == 10
    rows = json.loads((classifiers.results / "rows/A/seed0/few-random.json").read_text())["rows"]
    errors = {row["victim"]: row["error"] for row in rows if row["variant"] == "as_found"}
    assert errors["A"] == 1 and errors["svm"] < 0.5

    # Another seed makes those anew that draw, other options and other code their own models.
    classifiers.edit_config(lambda c: c.update(seeds=[0, 1]))
    sets = {
        "generate_adversarial_set A 1 few-random",
        "generate_adversarial_set linear 1 few-random",
    }
    wanted = {"train_model A 1", "train_model linear 1", "train_model own 1"}
    assert trained(classifiers.planned()) == wanted | sets
    classifiers.edit_config(lambda c: c.update(seeds=[0]))
    classifiers.edit_config(lambda c: c["models"]["svm"]["options"].update(C=5))
    classifiers.edit("my_estimators.py", "Classifier(trees)", "Classifier(trees, max_depth=3)")
    assert trained(classifiers.planned()) == {"train_model svm 0", "train_model own 0"}
    classifiers.edit_config(lambda c: c["models"]["svm"]["options"].update(C=10))
    classifiers.edit("my_estimators.py", ", max_depth=3", "")

    # The same bytes when it is made again, and a forged file is refused in a sentence.
    path = models / "svm/seed0.safetensors"
    content = path.read_bytes()
    path.unlink()
    classifiers.make("results/tiny/models/svm/seed0.safetensors")
    assert path.read_bytes() == content
    about = read_header(path)
    del about["content"]
    write_tensors(path, {"estimator": np.zeros(9, np.uint8)}, about)
    row = classifiers.results / "rows/noise/seed0/few.json"
    row.unlink()
    failed = classifiers.snakemake("results/tiny/rows/noise/seed0/few.json")
    assert failed.returncode == 1 and "Traceback" not in failed.stdout
    assert "seed0.safetensors is not what was saved: it holds no classifier" in failed.stdout


MISTAKES = {
    "class": (
        lambda c: c["models"]["svm"].update(estimator="sklearn.svm:SCV"),
        "models.svm.estimator: 'sklearn.svm:SCV' is none of the classifiers that are taken by name "
        "(did you mean sklearn.svm:SVC?)",
    ),
    "no colon": (
        lambda c: c["models"]["svm"].update(estimator="sklearn.svm.SVC"),
        "models.svm.estimator: 'sklearn.svm.SVC' does not have the form module:name",
    ),
    "split": (
        lambda c: c["models"]["svm"].update(split="P9"),
        "models.svm.split: there is no split 'P9'",
    ),
    "key of a network": (
        lambda c: c["models"]["svm"].update(weight_decay=0.1),
        "models.svm.weight_decay is not a known key",
    ),
    "users' module": (
        lambda c: c["models"]["svm"].update(estimator="nowhere:SVC"),
        "no Python file nowhere.py for 'nowhere:SVC'",
    ),
    "as a source": (
        lambda c: c["experiments"]["pairs"]["sources"].append("svm"),
        "experiments.pairs.sources: svm has no gradient with respect to its images, so it cannot "
        "be attacked; name it under victims alone",
    ),
    "frame bounds": (
        lambda c: c["experiments"]["bounds"]["models"].append("svm"),
        "experiments.bounds.models: svm is no network, so it has no layers; take it out",
    ),
    "threads": (
        lambda c: c["models"]["svm"]["options"].update(n_jobs=4),
        "models.svm.options.n_jobs: threads.train says how many threads it gets; take it out",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_that_planning_tells(classifiers, mistake):
    change, sentence = MISTAKES[mistake]
    classifiers.edit_config(change)
    done = classifiers.snakemake("--dry-run")
    assert done.returncode == 1 and sentence in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not (classifiers.path / "results").exists()


def test_mistakes_that_the_step_tells(classifiers):
    output = "results/tiny/models/svm/seed0.safetensors"
    for options, sentence in (
        ({"gama": 0.1}, "error: sklearn.svm:SVC has no option 'gama' (did you mean gamma?)"),
        ({"C": -1}, "error: sklearn.svm:SVC cannot be fitted: The 'C' parameter of SVC must be"),
    ):
        classifiers.edit_config(lambda c, o=options: c["models"]["svm"].update(options=o))
        done = classifiers.snakemake(output)
        assert done.returncode == 1 and sentence in done.stdout, done.stdout
        assert "Traceback" not in done.stdout
        assert not (classifiers.path / output).exists()
