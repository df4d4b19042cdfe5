"""The check of engines against the closed form, and the closed form itself."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from blindspots.attacks import selfcheck
from blindspots.attacks.closed_form import closed_form_distances
from blindspots.attacks.engines import engine
from blindspots.attacks.result import AdversarialResult
from blindspots.attacks.selfcheck import check, linear_problem

CPU = torch.device("cpu")


def test_closed_form_is_that_of_scipy():
    """Each distance against SLSQP on the one inequality, with images at the bounds."""
    generator = np.random.default_rng(0)
    weights, bias = generator.standard_normal((4, 9)), generator.standard_normal(4)
    images = (1.4 * generator.random((5, 9)) - 0.2).clip(0, 1)
    labels = (images @ weights.T + bias).argmax(1)
    found = closed_form_distances(*map(torch.from_numpy, (weights, bias, images, labels)))
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        assert found[row, label] == torch.inf
        for wrong in set(range(4)) - {label}:
            a, b = weights[wrong] - weights[label], bias[wrong] - bias[label]
            exact = minimize(
                lambda x, image=image: 0.5 * ((x - image) ** 2).sum(),
                np.where(a > 0, 1.0, 0.0),
                jac=lambda x, image=image: x - image,
                bounds=[(0, 1)] * 9,
                constraints={"type": "ineq", "fun": lambda x, a=a, b=b: a @ x + b},
                method="SLSQP",
                options={"ftol": 1e-15, "maxiter": 300},
            )
            if exact.success:
                wanted = np.linalg.norm(exact.x - image) / 3
                assert found[row, wrong].item() == pytest.approx(wanted, rel=1e-5)
            else:
                assert found[row, wrong] == torch.inf


def test_problem_has_saturated_pixels_and_finite_answers():
    model, images, labels, exact = linear_problem()
    assert ((images == 0) | (images == 1)).float().mean() > 0.1
    assert torch.equal(model(images).argmax(1), labels)
    assert exact.isfinite().all() and (exact > 0).all()


@pytest.mark.parametrize(("method", "options"), [("lbfgs", {}), ("ddn", {"polish_steps": 8})])
def test_our_engines_are_exact(method, options):
    lines = check(engine(method), options, CPU)
    assert [line["targets"] for line in lines] == ["nearest", "untargeted"]
    for line in lines:
        assert line["verdict"] == selfcheck.EXACT
        assert line["failed"] == 0 and line["certified"] == 1
        assert 0 <= line["mean_excess"] < 1e-4 and line["worst_excess"] < 1e-3


def spoilt(change):
    """Return an engine whose correct result is changed."""

    def attack(model, images, labels, *, targets=None, chunk=1000):
        result = vars(engine("lbfgs")(model, images, labels, targets=targets)).copy()
        change(result, images)
        return AdversarialResult(**result)

    return attack


def lengthened(result, images):
    result["rms"] = result["rms"] * 1.02


def uncertified(result, images):
    result["kkt_residual"] = torch.ones_like(result["kkt_residual"])


def missing(result, images):
    result["success"] = result["success"].clone()
    result["success"][3] = False


def outside(result, images):
    result["images"] = result["images"].clone()
    result["images"][0, 0, 0, 0] = 1.1


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lengthened, selfcheck.ABOVE),
        (uncertified, selfcheck.NOT_CERTIFIED),
        (missing, selfcheck.FAILED),
        (outside, selfcheck.OUTSIDE),
    ],
)
def test_each_fault_is_named(change, verdict):
    assert [line["verdict"] for line in check(spoilt(change), {}, CPU)] == [verdict, verdict]


def test_engine_that_raises_is_named(caplog):
    """With the first line of what it said; its other kind of targets counts all the same."""

    def attack(model, images, labels, *, targets=None):
        if targets is not None:
            raise IndexError("no targets\nhere")
        return engine("lbfgs")(model, images, labels)

    nearest, untargeted = check(attack, {}, CPU)
    assert nearest == {"targets": "nearest", "verdict": f"{selfcheck.FAILED}: no targets"}
    assert untargeted["verdict"] == selfcheck.EXACT
    assert "IndexError" in caplog.text
