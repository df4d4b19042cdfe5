"""DDN: what is published, what is added to it, and the contract that it shares with lbfgs."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from blindspots.attacks.ddn import ddn, search
from blindspots.attacks.lbfgs import lbfgs
from blindspots.attacks.objective import Objective
from blindspots.attacks.selfcheck import linear_problem
from blindspots.evaluation.distortion import rms_distortion


@pytest.fixture(scope="module")
def case(mlp, digits):
    """A trained sigmoid network, 60 images that it gets right, labels and wrong targets."""
    images, labels = digits
    with torch.no_grad():
        right = mlp(images).argmax(1) == labels
    images, labels = images[right][:60], labels[right][:60]
    return mlp, images, labels, (labels + 1 + torch.arange(60) % 9) % 10


@pytest.fixture(scope="module")
def result(case):
    network, images, labels, targets = case
    return ddn(network, images, labels, targets=targets)


def one_by_one(model, images, targets, steps, gamma=0.05):
    """Return the smallest successes of the method as its module states it, image by image."""
    found = []
    for image, target in zip(images, targets, strict=True):
        delta, norm, best, missed = torch.zeros_like(image), 1.0, None, False
        for step in range(steps):
            point = (image + delta).clone().requires_grad_(True)
            logits = model(point[None])[0]
            others = torch.cat([logits[:target], logits[target + 1 :]]).topk(2).values
            success = (logits[target] > others[0]).item()
            if success and (best is None or delta.norm() < best.norm()):
                best = delta.clone()
            second = logits[target] >= others[1]
            height = logits[target] - others[0] if second else logits.log_softmax(0)[target]
            (gradient,) = torch.autograd.grad(height, point)
            cosine = (1 + np.cos(np.pi * step / steps)) / 2
            delta = delta + (0.01 + 0.99 * cosine) * gradient / gradient.norm()
            missed |= step > 0 and not success
            settled = missed and best is not None
            change = gamma * (0.05 + 0.95 * cosine if settled else 1.5)
            norm *= 1 - change if success else 1 + change
            norm = min(norm, torch.maximum(image, 1 - image).norm().item())
            delta = (image + delta * norm / delta.norm()).clamp(0, 1) - image
        found.append(np.nan if best is None else best.square().mean().sqrt().item())
    return np.array(found)


def test_search_is_the_method(case, monkeypatch):
    """The same distances one by one, but for the margin, in double precision: no rounding."""
    monkeypatch.setattr("blindspots.attacks.ddn.SUCCESS_MARGIN", 0.0)
    monkeypatch.setattr("blindspots.attacks.objective.ROUNDING", 0.0)
    network, images, labels, targets = case
    network, images = copy.deepcopy(network).double(), images[:12].double()
    wanted = one_by_one(network, images, targets[:12], 100)
    objective = Objective(network, images.shape[1:], labels[:12], targets[:12])
    _, distance = search(objective, images.flatten(1), 100, gamma=0.05, init_norm=1.0)
    found = distance.numpy() / np.sqrt(images[0].numel())
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_result_is_the_search_and_its_direction(case, result):
    """What is returned was found by the search or lies on the way there, by up to one step."""
    network, images, labels, targets = case
    objective = Objective(network, images.shape[1:], labels, targets)
    objective.suit(images.flatten(1))
    _, distance = search(objective, images.flatten(1), 100, gamma=0.05, init_norm=None)
    searched = distance / np.sqrt(images[0].numel())
    assert (result.rms <= searched * (1 + 1e-6)).all()
    assert (result.rms >= searched * (1 - 0.06)).all()


def test_every_attack_succeeds_by_a_margin(case, result):
    network, images, _, targets = case
    assert result.success.all()
    for batch in (1, 7, 60):
        with torch.no_grad():
            answers = torch.cat([network(part).argmax(1) for part in result.images.split(batch)])
        assert torch.equal(answers, targets)
    assert result.images.min() >= 0 and result.images.max() <= 1
    torch.testing.assert_close(result.rms, rms_distortion(result.images, images))


def test_polish_ends_where_lbfgs_does(case, result):
    """Both at a smallest distortion, with a certificate."""
    network, images, labels, targets = case
    polished = ddn(network, images, labels, targets=targets, polish_steps=12)
    other = lbfgs(network, images, labels, targets=targets)
    assert (polished.rms <= result.rms * (1 + 1e-4)).all()
    assert (polished.kkt_residual < 1e-3).float().mean() > 0.9
    assert polished.rms.mean() == pytest.approx(other.rms.mean().item(), rel=5e-3)


@pytest.mark.parametrize("targets", [None, "nearest"])
def test_linear_model(targets):
    """Within a few per cent of the closed form; polished, exact."""
    model, images, labels, exact = linear_problem()
    for options, allowed in (({}, 0.02), ({"polish_steps": 8}, 1e-3)):
        found = ddn(model, images, labels, targets=targets, **options)
        assert found.success.all()
        assert (found.rms.double() >= exact * (1 - 1e-5)).all()
        assert found.rms.double().mean() / exact.mean() - 1 < allowed


def test_evaluations_count_the_steps(case):
    network, images, labels, targets = case
    for steps in (10, 40):
        found = ddn(network, images[:5], labels[:5], targets=targets[:5], steps=steps)
        # The certificate looks at one margin and, where others are near, at so many for all such.
        certificate = {evaluations - steps - 2 for evaluations in found.evaluations.tolist()}
        assert len(certificate - {0}) <= 1 and certificate <= {0, *range(2, 10)}


@pytest.mark.parametrize("targets", ["given", None, "nearest"])
def test_failure_is_never_a_zero(targets):
    """A class that wins nowhere in the box: no success, no number, the original image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).requires_grad_(False)
    network[1].weight.copy_(torch.eye(3, 4))
    network[1].bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    images = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    goal = torch.full((3,), 2) if targets == "given" else targets
    found = ddn(network, images, torch.zeros(3, dtype=torch.int64), targets=goal)
    assert not found.success.any()
    assert found.rms.isnan().all() and found.kkt_residual.isnan().all()
    assert torch.equal(found.images, images)


def test_flat_region_is_left():
    """Where there is no gradient at all it walks towards mid-grey, and meets one."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 2))
    network.requires_grad_(False)
    network[1].weight.fill_(1.0)
    network[1].bias.fill_(-1.0)  # the unit is dead at the image
    network[3].weight.copy_(torch.tensor([[0.0], [4.0]]))
    network[3].bias.copy_(torch.tensor([1.0, 0.0]))
    found = ddn(network, torch.full((1, 4), 0.1), torch.tensor([0]))
    assert found.success.all()


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"init_norm": 0.0},
        {"init_norm": float("inf")},
        {"polish_steps": -1},
        {"cut_steps": -1},
        {"competitors": 0},
        {"chunk": 0},
    ],
)
def test_options_out_of_range(case, options):
    network, images, labels, _ = case
    with pytest.raises(ValueError, match=next(iter(options))):
        ddn(network, images[:2], labels[:2], **options)
