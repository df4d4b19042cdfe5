"""Classifiers of scikit-learn: made, fitted, kept without pickle, and asked as models."""

import inspect
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_info, threadpool_limits

from blindspots.artifacts import read_tensors, write_tensors
from blindspots.attacks.lbfgs import lbfgs
from blindspots.data.sources import digits as embedded
from blindspots.errors import UserError
from blindspots.models import estimators
from blindspots.models.classifiers import KNOWN, LINEAR, OTHERS, WITHOUT_DRAWS
from blindspots.models.estimator_bytes import pack, unpack
from blindspots.models.estimators import facts_of, fit, make, softmax_of
from blindspots.models.inference import answers_of, logits_of
from blindspots.models.makers import estimator as maker
from blindspots.models.predictions import Predictions, rows_of
from blindspots.steps.job import Job
from blindspots.steps.weights import load_network, save_estimator

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
# What makes the slow ones quick, and lets the others work with a few digits.
OPTIONS = {
    "sklearn.discriminant_analysis:QuadraticDiscriminantAnalysis": {
        "solver": "eigen",
        "shrinkage": 0.5,
    },
    "sklearn.ensemble:AdaBoostClassifier": {"n_estimators": 20},
    "sklearn.ensemble:BaggingClassifier": {"n_estimators": 3},
    "sklearn.ensemble:ExtraTreesClassifier": {"n_estimators": 5},
    "sklearn.ensemble:GradientBoostingClassifier": {"n_estimators": 2},
    "sklearn.ensemble:HistGradientBoostingClassifier": {"max_iter": 3},
    "sklearn.ensemble:RandomForestClassifier": {"n_estimators": 5},
    "sklearn.linear_model:LogisticRegressionCV": {"Cs": 2, "cv": 2},
    "sklearn.neural_network:MLPClassifier": {"hidden_layer_sizes": [8], "max_iter": 100},
    "sklearn.svm:SVC": {"C": 10, "gamma": 0.02},
}


@pytest.fixture(scope="module")
def few(digits):
    """Four hundred digits as rows, and their labels."""
    images, labels = digits
    return rows_of(images[:400]), labels[:400].numpy()


def fitted(reference, rows, labels, seed=0, threads=1, **options):
    """Return a fitted classifier and what it warned of."""
    estimator = make(reference, {**OPTIONS.get(reference, {}), **options}, seed)
    return estimator, fit(reference, estimator, rows, labels, seed, threads)


# What there is -----------------------------------------------------------------------------------


def test_catalogue_is_of_the_library_that_is_installed():
    """Every name is a classifier; those that draw have a random_state, and no others."""
    classes = dict(all_estimators("classifier"))
    assert len(set(KNOWN)) == len(KNOWN) and set(WITHOUT_DRAWS) <= set(KNOWN)
    for reference in KNOWN:
        module, _, name = reference.partition(":")
        found = getattr(import_module(module), name)
        assert classes[name] is found
        draws = "random_state" in inspect.signature(found).parameters
        assert draws == (reference not in WITHOUT_DRAWS) or found.__name__ in ("NuSVC", "SVC")


@pytest.mark.parametrize("reference", OTHERS)
def test_what_is_kept_predicts_what_was_fitted(reference, few, digits):
    """On all digits, most of which it has not seen; by the same bytes from two fits."""
    estimator, _ = fitted(reference, *few)
    content = pack(estimator)
    network = Predictions(unpack(content), 10)
    answers = answers_of(logits_of(network, digits[0], 500)).numpy()
    assert (answers == estimator.predict(rows_of(digits[0]))).all()
    assert (answers == digits[1].numpy()).mean() > 0.3
    assert pack(fitted(reference, *few)[0]) == content


@pytest.mark.parametrize("reference", LINEAR)
def test_linear_classifier_is_a_softmax(reference, few, digits):
    """Of scores whose largest is what it predicts, on all digits."""
    estimator, _ = fitted(reference, *few)
    network = softmax_of(estimator, SHAPE, 10)
    scores = logits_of(network, digits[0], 500)
    assert (answers_of(scores).numpy() == estimator.predict(rows_of(digits[0]))).all()
    wanted = estimator.decision_function(rows_of(digits[0]))
    assert np.allclose(scores.numpy(), wanted, atol=1e-4 * abs(wanted).max())


@pytest.mark.parametrize(
    "reference", ["sklearn.linear_model:SGDClassifier", "sklearn.ensemble:RandomForestClassifier"]
)
def test_seed_and_threads(reference, few):
    """Another seed is another classifier; threads change none of these two."""

    def content(**options):
        return pack(fitted(reference, *few, **options)[0])

    assert content() == content(threads=2) != content(seed=1)
    assert content(random_state=5) == content(random_state=5, seed=1)


class Asked:
    """Notes how many threads the libraries may use when it is asked."""

    def predict(self, rows):
        self.threads = {library["num_threads"] for library in threadpool_info()}
        return np.zeros(len(rows))


def test_answers_take_no_more_threads_than_torch():
    asked = Asked()
    with threadpool_limits(3):
        torch.set_num_threads(1)  # of the libraries, torch's own alone
        Predictions(asked, 2)(torch.zeros(1, *SHAPE))
        assert 3 in {library["num_threads"] for library in threadpool_info()}
    assert asked.threads == {1}


# Two classes, and classes that are missing -------------------------------------------------------


@pytest.mark.parametrize("reference", LINEAR)
def test_two_classes(reference, digits):
    """One score becomes two logits, as far apart as it is from 0."""
    images, labels = (part[digits[1] < 2] for part in digits)
    estimator, _ = fitted(reference, rows_of(images), labels.numpy())
    logits = softmax_of(estimator, SHAPE, 2)(images).detach()
    wanted = torch.from_numpy(estimator.decision_function(rows_of(images)))
    size = wanted.abs().max().item()
    assert torch.allclose((logits[:, 1] - logits[:, 0]).double(), wanted, atol=1e-5 * size)
    assert (logits.argmax(1).numpy() == estimator.predict(rows_of(images))).all()


def test_two_classes_of_one_that_is_not_linear(digits):
    images, labels = (part[digits[1] < 2] for part in digits)
    estimator, _ = fitted("sklearn.svm:SVC", rows_of(images), labels.numpy())
    assert torch.equal(Predictions(estimator, 2)(images).argmax(1), labels)


def test_classes_that_are_missing(few, digits):
    """Are never predicted; a linear classifier has no score of them, and says so."""
    rows, labels = few
    rows, labels = rows[labels > 1], labels[labels > 1]
    estimator, _ = fitted("sklearn.svm:SVC", rows, labels)
    scores = Predictions(estimator, 10)(digits[0])
    assert scores.shape == (len(digits[0]), 10) and scores[:, :2].sum() == 0
    estimator, _ = fitted("sklearn.svm:LinearSVC", rows, labels)
    with pytest.raises(ValueError, match="it has seen no image of class 0, 1, for which"):
        softmax_of(estimator, SHAPE, 10)


def test_weights_that_are_not_finite(few):
    estimator, _ = fitted("sklearn.svm:LinearSVC", *few)
    estimator.intercept_[3] = np.inf
    with pytest.raises(ValueError, match="its weights are not all finite"):
        softmax_of(estimator, SHAPE, 10)


def test_linear_kernel_is_not_linear(few, digits):
    """The pairs of classes of an SVC vote: why it is not among the linear ones."""
    estimator, _ = fitted("sklearn.svm:SVC", *few, kernel="linear", C=0.01)
    rows = rows_of(digits[0])
    assert estimator.coef_.shape == (45, 64)
    assert (estimator.decision_function(rows).argmax(1) != estimator.predict(rows)).any()


# Attacks -----------------------------------------------------------------------------------------


def test_smallest_distortions_of_a_linear_classifier(few):
    """As its own coefficients have them, where no pixel is near the edge of the box."""
    rows, labels = few
    rows = 0.3 + 0.4 * rows
    estimator, _ = fitted("sklearn.svm:LinearSVC", rows, labels)
    right = estimator.predict(rows) == labels
    rows, labels = rows[right][:50], labels[right][:50]
    scores, weights = estimator.decision_function(rows), estimator.coef_
    gaps = scores[np.arange(50), labels][:, None] - scores
    norms = np.linalg.norm(weights[labels][:, None] - weights, axis=2)
    with np.errstate(invalid="ignore"):
        exact = np.nanmin(gaps / norms, axis=1) / 8  # of 64 pixels the root
    images = torch.from_numpy(rows).float().view(-1, *SHAPE)
    network = softmax_of(estimator, SHAPE, 10).requires_grad_(False)
    found = lbfgs(network, images, torch.from_numpy(labels), targets="nearest")
    assert found.success.all() and found.images.min() > 0 and found.images.max() < 1
    assert np.allclose(found.rms.numpy(), exact, rtol=1e-3)
    assert abs(found.rms.mean().item() / exact.mean() - 1) < 1e-4
    assert (found.kkt_residual < 1e-3).float().mean() > 0.95


def test_classifier_without_gradient_is_refused_in_a_sentence(few, digits):
    """Where planning does not see it: in a chain of a maker that does not ask."""
    estimator, _ = fitted("sklearn.svm:SVC", *few)
    with pytest.raises(UserError, match="logits without a gradient with respect to the images"):
        lbfgs(Predictions(estimator, 10), digits[0][:9], digits[1][:9])


# Bytes -------------------------------------------------------------------------------------------


class Foreign:
    """What is none of scikit-learn's."""


def test_no_time_and_no_address_in_the_bytes(few):
    with zipfile.ZipFile(io.BytesIO(pack(fitted("sklearn.svm:SVC", *few)[0]))) as content:
        assert {info.date_time for info in content.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        names = content.namelist()
        assert names == [*(f"{k}.npy" for k in range(len(names) - 1)), "schema.json"]
        text = content.read("schema.json").decode()
    assert len(names) > 5 and json.loads(text)["__id__"] < text.count("__id__") + 1


def test_foreign_type_is_refused_before_it_is_built(few):
    """In whatever depth of bytes that are right but for it."""
    estimator, _ = fitted("sklearn.svm:SVC", *few)
    estimator.extra_ = [{"a": Foreign()}]
    with pytest.raises(ValueError, match=rf"it holds {Foreign.__module__}\.Foreign, which is not"):
        unpack(pack(estimator))


class Trap:
    """Calls when it is unpickled."""

    def __reduce__(self):
        return (sys.exit, ("it was run",))


def test_other_bytes_are_refused(few):
    content = pack(fitted("sklearn.svm:SVC", *few)[0])
    for wrong in (b"", b"junk", pickle.dumps(Trap()), content[: len(content) // 2]):
        with pytest.raises(ValueError, match="it holds no classifier of scikit-learn"):
            unpack(wrong)
    for other in ([1], np.zeros(3)):
        with pytest.raises(ValueError, match="it holds no classifier, but an object of"):
            unpack(pack(other))


def test_what_cannot_be_saved(few):
    estimator, _ = fitted("sklearn.svm:SVC", *few)
    estimator.extra_ = (number for number in range(3))
    with pytest.raises(ValueError, match="it holds what cannot be saved"):
        pack(estimator)


# Making and fitting ------------------------------------------------------------------------------

USERS = """
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC


class Mine(SVC):
    pass


def reduced(count):
    return make_pipeline(PCA(count), RandomForestClassifier(3, n_jobs=-1))


def regression():
    return PCA()


def broken():
    raise KeyError("gone")
"""


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    (folder / "my_estimators.py").write_text(USERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "my_estimators"
        sys.modules.pop("my_estimators", None)


def test_users_function(users, few, digits):
    """Its parts are seeded, ask for no threads, and are kept."""
    estimator, _ = fitted(f"{users}:reduced", *few, count=10)
    parts = estimator.get_params()
    seeds = {parts[key] for key in parts if key.endswith("random_state")}
    assert len(seeds) == 2 and None not in seeds
    assert parts["randomforestclassifier__n_jobs"] is None
    answers = Predictions(unpack(pack(estimator)), 10)(digits[0]).argmax(1)
    assert (answers.numpy() == estimator.predict(rows_of(digits[0]))).all()


def test_users_class_is_not_kept(users, few):
    """Which would have to be imported to be read."""
    estimator, _ = fitted(f"{users}:Mine", *few)
    with pytest.raises(ValueError, match=r"it holds my_estimators\.Mine, which is not trusted"):
        unpack(pack(estimator))


@pytest.mark.parametrize(
    ("reference", "options", "sentence"),
    [
        ("sklearn.svm:SVC", {"gama": 1}, r"sklearn.svm:SVC has no option 'gama' \(did you mean ga"),
        ("my_estimators:reduced", {}, "my_estimators:reduced failed: TypeError: reduced"),
        ("my_estimators:reduced", {"cuont": 1}, r"no option 'cuont' \(did you mean count\?\)"),
        ("my_estimators:regression", {}, "returned PCA, not a classifier of scikit-learn"),
        ("my_estimators:broken", {}, "my_estimators:broken failed: KeyError: 'gone'"),
        ("my_estimators:none", {}, "my_estimators:none: the module has no 'none'"),
        ("no_such_module:f", {}, "no_such_module:f failed: No module named 'no_such_module'"),
    ],
)
def test_what_cannot_be_made(users, reference, options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        make(reference, options, 0)
    assert "\n" not in str(caught.value)


def test_options_that_the_library_refuses(few):
    with pytest.raises(UserError, match="SVC cannot be fitted: The 'C' parameter of"):
        fitted("sklearn.svm:SVC", *few, C=-1)


def test_options_are_left_as_they_are():
    options = {"hidden_layer_sizes": [8]}
    make("sklearn.neural_network:MLPClassifier", options, 0).hidden_layer_sizes.append(9)
    assert options == {"hidden_layer_sizes": [8]}


def test_record(few):
    """What a classifier counts, its parameters with the defaults, and its warnings."""
    estimator, warned = fitted("sklearn.svm:LinearSVC", *few, max_iter=1)
    assert len(warned) == 1 and "failed to converge" in warned[0]
    found = facts_of(estimator)
    assert found["iterations"] == 1 and found["parameters"]["C"] == 1.0
    estimator, warned = fitted("sklearn.svm:SVC", *few)
    assert warned == [] and len(facts_of(estimator)["support_vectors"]) == 10
    json.dumps(facts_of(estimator), allow_nan=False)


# The maker and its step --------------------------------------------------------------------------


def entry(reference, **options):
    return {"estimator": reference, "options": options, "split": "train"}


def test_what_planning_asks():
    linear, forest, svm, own = (
        entry(reference)
        for reference in (
            "sklearn.svm:LinearSVC",
            "sklearn.ensemble:RandomForestClassifier",
            "sklearn.svm:SVC",
            "mine:build",
        )
    )
    assert [maker.differentiable(e) for e in (linear, forest, svm, own)] == [True] + [False] * 3
    assert [maker.seeded(e) for e in (linear, forest, svm, own)] == [True, True, False, True]
    assert not maker.seeded(entry("sklearn.svm:LinearSVC", random_state=3))
    assert maker.references(own) == ("mine:build",) and maker.references(svm) == ()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (entry("sklearn.svm:SCV"), r"'sklearn.svm:SCV' is none .*\(did you mean sklearn.svm:SVC\?"),
        (entry("sklearn.linear_model:LinearSVC"), r"\(did you mean sklearn.svm:LinearSVC\?\)"),
        (entry("sklearn.svm:SVR"), "models.m.estimator: 'sklearn.svm:SVR' is none of the classif"),
        (entry("sklearn.neighbors:KNeighborsClassifier", n_jobs=2), "models.m.options.n_jobs: "),
    ],
)
def test_problems(wrong, sentence):
    (problem,) = maker.problems("models.m", wrong, {}, None)
    assert re.search(sentence, problem) and "\n" not in problem
    assert list(maker.problems("models.m", entry("sklearn.svm:SVC"), {}, None)) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The digits as an artifact."""
    path = tmp_path_factory.mktemp("data") / "data.safetensors"
    found = embedded.load()
    tensors = {f"train_{what}": getattr(found, what)["train"] for what in ("images", "labels")}
    facts = {"maximum": 16, "classes": 10, "shape": [1, 8, 8]}
    write_tensors(path, tensors, {"job": "d" * 64, "facts": facts})
    return path


def stepped(path, data, reference, **options):
    """Run the maker's step; return the model read back and its provenance."""
    spec = {"estimator": reference, "options": options, "split": {"of": "train"}, "seed": 0}
    job = Job(spec | {"upstream": {"data": "d" * 64}}, "code", "a" * 64, 1)
    maker.main(job, SimpleNamespace(data=data, model=path))
    return load_network(path, "a" * 64, CPU)


@pytest.mark.parametrize(
    ("reference", "kind"),
    [("sklearn.svm:LinearSVC", "softmax"), ("sklearn.naive_bayes:GaussianNB", "estimator")],
)
def test_step(tmp_path, data, digits, reference, kind):
    """It makes the same bytes twice, a model that is right as often as its record says."""
    model, about = stepped(tmp_path / "a.safetensors", data, reference)
    stepped(tmp_path / "b.safetensors", data, reference)
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert first == second
    assert about["network"] == {
        "architecture": {"kind": kind},
        "shape": [1, 8, 8],
        "classes": 10,
    }
    record = about["training"]
    error = (logits_of(model, digits[0], 500).argmax(1) != digits[1]).double().mean().item()
    assert record["error"] == error < 0.2 and record["unlike"] == 0
    assert not model.training and all(not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("reference", "options", "sentence"),
    [
        ("sklearn.svm:SVC", {"kernel": "rfb"}, "cannot be fitted: The 'kernel' parameter of SVC"),
        ("my_estimators:Mine", {}, "my_estimators:Mine was fitted and cannot be kept: it holds my"),
    ],
)
def test_step_writes_nothing_of_what_it_refuses(
    tmp_path, data, users, reference, options, sentence
):
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match=sentence):
        stepped(path, data, reference, **options)
    assert list(tmp_path.iterdir()) == []


def test_linear_classifier_that_rounding_changes(tmp_path, data, monkeypatch):
    """Scores that differ by less than float32 tells apart, in more than one image of a thousand."""
    fitted_weights = estimators.softmax_of

    def rounded(*arguments):
        network = fitted_weights(*arguments)
        network[1].weight.data = network[1].weight.data.to(torch.float8_e4m3fn).float()
        return network

    monkeypatch.setattr(estimators, "softmax_of", rounded)
    with pytest.raises(UserError, match=r"in single precision it answers \d+ of 1000 images other"):
        stepped(tmp_path / "model.safetensors", data, "sklearn.svm:LinearSVC")
    assert list(tmp_path.iterdir()) == []


def test_forged_artifact_is_refused(tmp_path, data, few):
    """One whose digest is right, with a type that nobody has asked for."""
    path = tmp_path / "model.safetensors"
    stepped(path, data, "sklearn.naive_bayes:GaussianNB")
    estimator, _ = fitted("sklearn.naive_bayes:GaussianNB", *few)
    estimator.extra_ = Foreign()
    _, about = read_tensors(path)
    del about["content"]
    for content, said in ((pack(estimator), "Foreign, which is not trusted"), (b"", "no classifi")):
        save_estimator(path, content, about)
        with pytest.raises(UserError, match=f"is not what was saved: it holds .*{said}"):
            load_network(path, "a" * 64, CPU)
    write_tensors(path, {"other": np.zeros(3)}, about)
    with pytest.raises(UserError, match="is not what was saved"):
        load_network(path, "a" * 64, CPU)


def test_studies_without_classifiers_load_neither_library():
    """Reading a network imports nothing of scikit-learn and skops, which takes seconds."""
    code = """
import sys
import blindspots.experiments.transfer.evaluate_transfer
import blindspots.steps.train_model, blindspots.steps.generate_adversarial_set
print(*(name for name in ("sklearn", "skops", "joblib") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
