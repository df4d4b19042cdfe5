"""What a notebook offers: three functions, their results, and a sentence for each mistake."""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import blindspots as bs
from blindspots.attacks.ddn import ddn
from blindspots.attacks.lbfgs import lbfgs
from blindspots.errors import UserError
from blindspots.evaluation.storage import Survivors
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.optim.lbfgsb import minimize
from blindspots.randomness import random_wrong_labels

FEW = 30


@pytest.fixture
def few(digits):
    """Some images and their labels."""
    images, labels = digits
    return images[:FEW], labels[:FEW]


@pytest.fixture
def models(softmax, mlp):
    return {"softmax": softmax, "mlp": mlp}


@pytest.fixture(scope="module")
def matrix(softmax, mlp, digits):
    """Two models, two levels, noise, random targets, forty images of which some are wrong."""
    images, labels = (part[:40] for part in digits)
    labels = labels.clone()
    labels[:3] = (labels[:3] + 1) % 10
    return bs.transfer_matrix(
        {"softmax": softmax, "mlp": mlp},
        images,
        labels,
        targets="random",
        amplify=[0.1, 0.3],
        noise=[0.2],
    )


# The package -------------------------------------------------------------------------------------


def test_import_loads_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "matplotlib", "scipy", "importlib.metadata")
    code = f"""
import sys
import blindspots as bs
bs.__version__, dir(bs)
print(*(name for name in {heavy!r} if name in sys.modules))
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_names_are_found_by_who_looks_for_them():
    offered = {"attack", "normalized", "transfer_matrix", "__version__"}
    assert offered == set(bs.__all__) and offered <= set(dir(bs))
    for name in offered - {"__version__"}:
        function = getattr(bs, name)
        assert function.__name__ == name and "Examples\n" in function.__doc__
        assert f"bs.{name}(" in function.__doc__
    with pytest.raises(AttributeError, match="module 'blindspots' has no attribute 'atack'"):
        bs.atack  # noqa: B018


# One model ---------------------------------------------------------------------------------------


def same(found, expected):
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.targets, expected.targets)


def test_attack_is_that_of_the_engine(softmax, few):
    same(bs.attack(softmax, *few), lbfgs(softmax, *few))
    found = bs.attack(softmax, *few, method="ddn", targets="nearest", steps=20, chunk=7)
    same(found, ddn(softmax, *few, targets="nearest", steps=20))


def test_random_targets_are_those_of_the_workflow(softmax, few):
    images, labels = few
    drawn = random_wrong_labels(labels.numpy(), np.arange(FEW), 10, "test", 3)
    found = bs.attack(softmax, images, labels, method="ddn", targets="random", seed=3)
    assert np.array_equal(found.targets.numpy(), drawn)
    given = bs.attack(softmax, images, labels, method="ddn", targets=drawn.tolist())
    same(found, given)
    second = bs.attack(softmax, images, labels, method="ddn", targets="runner_up")
    assert torch.equal(
        second.targets, softmax(images).scatter(1, labels[:, None], -torch.inf).argmax(1)
    )


@pytest.mark.parametrize("form", ["tensor", "numpy", "double", "no channel", "list", "reversed"])
def test_forms_of_images(softmax, few, form):
    images, labels = few
    whole = bs.attack(softmax, images, labels, method="ddn", steps=10)
    given = {
        "tensor": images.clone().requires_grad_(True),
        "numpy": images.numpy(),
        "double": images.numpy().astype(np.float64),
        "no channel": images[:, 0],
        "list": images.tolist(),
        "reversed": images.numpy()[::-1][::-1],
    }[form]
    same(bs.attack(softmax, given, labels, method="ddn", steps=10), whole)


def test_bytes_are_divided_by_255(softmax, few):
    images, labels = few
    pixels = (images * 255).round().to(torch.uint8)
    found = bs.attack(softmax, pixels.numpy(), labels, method="ddn", steps=10)
    same(found, bs.attack(softmax, pixels.float() / 255, labels, method="ddn", steps=10))
    assert found.images.dtype is torch.float32


@pytest.mark.parametrize("convert", [torch.Tensor.tolist, np.asarray, lambda v: v.to(torch.uint8)])
def test_forms_of_labels(softmax, few, convert):
    images, labels = few
    found = bs.attack(softmax, images, convert(labels), method="ddn", steps=10)
    same(found, bs.attack(softmax, images, labels, method="ddn", steps=10))


def test_function_of_a_persons_own(softmax, few):
    """It is told no targets where there are none, and its images are judged."""
    images, labels = few
    told = []

    def towards_grey(model, images, labels, targets, share=0.5):
        told.append(targets)
        return images + share * (0.5 - images)

    found = bs.attack(softmax, images, labels, method=towards_grey, share=0.9)
    moved = images + 0.9 * (0.5 - images)
    wrong = softmax(moved).argmax(1) != labels
    assert told == [None] and 0 < wrong.sum() < FEW and torch.equal(found.success, wrong)
    assert torch.equal(found.images[wrong], moved[wrong])
    with pytest.raises(ValueError, match="towards_grey has no option 'shar'; known: model, "):
        bs.attack(softmax, images, labels, method=towards_grey, shar=0.9)


def test_model_of_normalised_images(mlp, few):
    """The same answers as of images normalised by hand, on the device of the model."""
    images, labels = few
    model = bs.normalized(mlp, [0.5], [0.25])
    assert torch.equal(model(images), mlp((images - 0.5) / 0.25))
    assert model.mean.device == next(mlp.parameters()).device
    found = bs.attack(model, images, labels, method="ddn", steps=10)
    assert found.images.min() >= 0 and found.images.max() <= 1
    meta = bs.normalized(nn.Linear(2, 2, device="meta"), [0.5], [0.25])
    assert meta.mean.is_meta and meta.std.is_meta


# Several models ----------------------------------------------------------------------------------


def test_table_has_the_columns_of_a_workflow(matrix):
    """A row for each pair and form of images, in the order of a workflow."""
    assert list(matrix.table.columns) == list(FIELDS)
    keys = matrix.table[["source", "variant", "rms", "victim"]]
    forms = [(s, v) for s in ("softmax", "mlp") for v in ("as_found", "amplified", "amplified")]
    forms += [("noise", "clean"), ("noise", "gaussian")]
    assert list(keys[["source", "variant"]].itertuples(index=False, name=None)) == [
        form for form in forms for _ in range(2)
    ]
    assert list(keys["victim"]) == ["softmax", "mlp"] * len(forms)
    assert set(matrix.table["attack"]) == {"lbfgs", "images"}


def test_numbers_are_those_of_a_person_who_counts(matrix, softmax, mlp, digits):
    """What one cell says, from the attack on the images that the source gets right."""
    images, labels = (part[:40] for part in digits)
    labels = torch.cat([(labels[:3] + 1) % 10, labels[3:]])
    right = softmax(images).argmax(1) == labels
    drawn = random_wrong_labels(labels.numpy(), np.arange(40), 10, "test", 0)[right]
    found = lbfgs(softmax, images[right], labels[right], targets=torch.from_numpy(drawn))
    fooled = (mlp(found.images).argmax(1) != labels[right]) & found.success
    row = matrix.table[(matrix.table["source"] == "softmax") & (matrix.table["victim"] == "mlp")]
    row = row[row["variant"] == "as_found"].iloc[0]
    assert row["n_attacked"] == right.sum() == 40 - matrix.left_out["softmax"]
    assert row["n_fooled"] == fooled.sum() and row["error"] == fooled.double().mean()
    assert row["rms"] == pytest.approx(found.rms.mean().item())
    assert matrix.left_out["softmax"] >= 3
    clean = matrix.table[matrix.table["variant"] == "clean"].set_index("victim")
    assert clean.loc["mlp", "n_fooled"] == (mlp(images).argmax(1) != labels).sum()


def test_error_is_sources_by_victims(matrix):
    assert list(matrix.error.index) == list(matrix.error.columns) == ["softmax", "mlp"]
    assert matrix.error.loc["mlp", "mlp"] == 1.0 and matrix.error.loc["mlp", "softmax"] < 1.0


def test_plot_has_a_panel_for_each_level(matrix, tmp_path):
    figure = matrix.plot()
    titles = [ax.get_title().replace("\n", " ") for ax in figure.axes]
    assert titles[0].startswith("as found mean RMS") and titles[1:3] == [
        "amplified to RMS 0.1",
        "amplified to RMS 0.3",
    ]
    figure.savefig(tmp_path / "figure.png")
    assert "lbfgs, random targets, 40 images" in figure.get_suptitle()


def test_sources_alone_need_gradients(models, few):
    """A function without any is a victim like all others."""

    def rounded(images):
        return models["mlp"](images).detach().double().round(decimals=1)

    every = {**models, "rounded": rounded}
    attack = {"method": "ddn", "steps": 30}
    found = bs.transfer_matrix(every, *few, attack=attack, sources=["mlp"])
    assert found.error.shape == (1, 3) and found.attack == "ddn"
    assert list(found.error.columns) == list(every)
    alone = bs.transfer_matrix({"mlp": models["mlp"]}, *few, attack=attack)
    assert found.error.loc["mlp", "mlp"] == alone.error.loc["mlp", "mlp"]
    with pytest.raises(ValueError, match="model rounded returns logits without a gradient"):
        bs.transfer_matrix(every, *few)


def test_given_targets_are_those_of_the_images_attacked(models, few):
    """Some images are left out, and their targets with them."""
    images, labels = few
    wrong = labels.clone()
    wrong[::4] = (wrong[::4] + 1) % 10
    targets = (wrong + 2) % 10
    found = bs.transfer_matrix(models, images, wrong, attack="ddn", targets=targets)
    own = found.table[(found.table["source"] == found.table["victim"])]
    own = own[own["variant"] == "as_found"]
    assert (own["target_hit"] == own["n_fooled"]).all() and (own["n_fooled"] > 15).all()
    assert "given targets" in repr(found)


def test_everything_is_left_as_it_was(models, few):
    """Modes and random states; the same call gives the same table."""
    models["mlp"].train()
    torch.manual_seed(1)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = bs.transfer_matrix(models, *few, attack="ddn", noise=[0.1])
    again = bs.transfer_matrix(models, *few, attack="ddn", noise=[0.1])
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]
    assert models["mlp"].training
    models["mlp"].eval()
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)


# One line ----------------------------------------------------------------------------------------


def test_results_say_what_they_are_in_a_line(matrix, softmax, few):
    found = bs.attack(softmax, *few, method="ddn", steps=10)
    rms = found.rms[found.success].mean().item()
    n = int(found.success.sum())
    assert repr(found) == (
        f"<AdversarialResult: {n} of 30 images of 1x8x8 fool the model, mean RMS {rms:.5f}>"
    )
    members = [{"method": "ddn", "options": {"steps": 5}}]
    best = bs.attack(softmax, *few, method="best_of", members=members)
    assert re.fullmatch(r"<BestOfResult: \d+ of 30 images of 1x8x8 fool the model.*>", repr(best))
    images, answers = few[0], softmax(few[0]).argmax(1)
    failed = bs.attack(softmax, images, answers, method=lambda model, images, *others: images)
    assert repr(failed) == "<AdversarialResult: 0 of 30 images of 1x8x8 fool the model>"
    left_out = ", ".join(f"{name} {count}" for name, count in matrix.left_out.items())
    assert repr(matrix) == (
        "<TransferMatrix: 2 sources x 2 victims, lbfgs, random targets, 40 images, left out "
        f"because wrong already: {left_out}>"
    )

    def square(x, rows):
        return x.square().sum(1), 2 * x

    solved = minimize(square, torch.ones(3, 2), lower=0.0, upper=1.0)
    assert re.fullmatch(
        r"<OptimizeResult: 3 of 3 problems of 2 variables converged, \d+ evaluations at most>",
        repr(solved),
    )
    survivors = Survivors(torch.zeros(2, 1, 1, 1), torch.tensor([True, False]), torch.ones(2))
    assert repr(survivors) == "<Survivors: 1 of 2 images survive>"


def test_many_sources_are_told_by_their_range(softmax, few):
    several = {f"model number {number}": softmax for number in range(6)}
    found = bs.transfer_matrix(several, *few, attack={"method": "ddn", "steps": 2})
    count = found.left_out["model number 0"]
    assert repr(found).endswith(f"left out because wrong already: {count} to {count} a source>")


# Mistakes ----------------------------------------------------------------------------------------


def call(softmax, few, **changed):
    images, labels = few
    given = {"models": {"a": softmax}, "images": images, "labels": labels, "attack": "ddn"}
    return bs.transfer_matrix(**{**given, **changed})


MISTAKES = {
    "one image": ({"images": torch.rand(8, 8)}, r"must have shape \(N, C, H, W\) or \(N, H, W\)"),
    "no image": ({"images": torch.rand(0, 1, 8, 8)}, "must have shape"),
    "bytes as numbers": (
        {"images": torch.rand(FEW, 1, 8, 8) * 255},
        r"images must lie in \[0, 1\], not in .* to 25.*; divide them by 255",
    ),
    "normalised": (
        {"images": torch.randn(FEW, 1, 8, 8)},
        r"not in -.*; give them unnormalised, and the model as blindspots.normalized\(model, mean",
    ),
    "not a number": ({"images": torch.full((FEW, 1, 8, 8), torch.nan)}, "without NaN"),
    "integers": (
        {"images": np.ones((FEW, 1, 8, 8), np.int64)},
        "must be floating-point numbers in .*, or uint8, not int64",
    ),
    "black and white": (
        {"images": np.ones((FEW, 1, 8, 8), np.uint8)},
        "are divided by 255, and these are nowhere above 1",
    ),
    "text": ({"images": "images.npz"}, "images must be an array or a tensor of numbers, not str"),
    "ragged": ({"images": [[[0.1]], [[0.1, 0.2]]]}, "images must be an array or a tensor of"),
    "fewer labels": ({"labels": [1, 2]}, r"labels must have shape \(30,\), one for .*, not \(2,\)"),
    "one-hot": ({"labels": np.eye(10, dtype=int)[[0] * FEW]}, r"not \(30, 10\)"),
    "fractions": ({"labels": np.zeros(FEW)}, "labels must be whole numbers, not float64"),
    "another class": (
        {"labels": [10] * FEW},
        "labels must lie in 0 to 9, the classes of the model, not in 10 to 10",
    ),
    "no models": ({"models": {}}, "models is empty; give at least one"),
    "a list": ({"models": [print]}, r"models must be a dict from names to models, such as .* list"),
    "a number as name": ({"models": {1: print}}, "names of models must be text .*, not 1"),
    "noise": ({"models": {"noise": print}}, "names of models must be text .*, not 'noise'"),
    "no model": ({"models": {"a": 3}}, "model a must be a torch.nn.Module or a function"),
    "wrong shape": (
        {"models": {"a": lambda images: torch.rand(2, 2, 2)}},
        r"model a must return logits of shape \(B, C\) .*, not one of shape \(2, 2, 2\)",
    ),
    "probability of one class": (
        {"models": {"a": lambda images: images.flatten(1).mean(1).sigmoid()}},
        r"model a must return logits of shape \(B, C\)",
    ),
    "other classes": (
        {"models": "classes"},
        "models a and b have 10 and 5 classes; models that are compared must have the same",
    ),
    "sources": ({"sources": ["b"]}, r"sources must name some of the models, a, not \['b'\]"),
    "no sources": ({"sources": []}, r"sources must name some of the models, a, not \[\]"),
    "method": ({"attack": "pgd"}, "unknown method 'pgd'; known: lbfgs, ddn, best_of"),
    "options alone": ({"attack": {"steps": 3}}, r"attack must hold the method, .* not \['steps'\]"),
    "targets in it": (
        {"attack": {"method": "ddn", "targets": None}},
        "targets is an argument beside attack, and no option in it",
    ),
    "engine as function": (
        {"attack": lbfgs},
        "lbfgs must take model, images, labels, targets in this order and return images; attacks of"
        " this package go by their names",
    ),
    "word as targets": ({"targets": "any"}, "targets must be labels, None or one of 'random', "),
    "own label as target": ({"targets": "labels"}, "every target must differ from the label"),
    "target that is none": ({"targets": [11] * FEW}, "targets must lie in 0 to 9"),
    "level": ({"amplify": [0.0]}, "amplify must be numbers above 0, not 0.0"),
    "noise level": ({"noise": ["0.1"]}, "noise must be numbers above 0, not '0.1'"),
    "seed": ({"seed": -1}, "seed must be at least 0, not -1"),
    "chunk": ({"chunk": 0}, "chunk must be at least 1, not 0"),
    "never right": (
        {"labels": "wrong"},
        "model a gets none of the 30 images right, so there is none to attack; leave it out",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told_in_a_sentence(softmax, few, mistake):
    changed, sentence = MISTAKES[mistake]
    made = {
        "labels": few[1],
        "wrong": (softmax(few[0]).argmax(1) + 1) % 10,
        "classes": {"a": softmax, "b": lambda images: softmax(images)[:, :5]},
    }
    changed = {
        key: made.get(value, value) if isinstance(value, str) else value
        for key, value in changed.items()
    }
    with pytest.raises((ValueError, UserError), match=sentence) as caught:
        call(softmax, few, **changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["images", "labels", "targets"])
def test_mistakes_of_an_attack_are_told_alike(softmax, few, name):
    images, labels = few
    given = {"images": images, "labels": labels, "targets": None}
    wrong = {"images": images * 300, "labels": labels + 10, "targets": [1]}
    with pytest.raises(ValueError, match=f"{name} must"):
        bs.attack(softmax, **{**given, name: wrong[name]}, method="ddn")
