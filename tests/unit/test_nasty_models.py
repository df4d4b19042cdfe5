"""Models that are right but awkward: in odd units, masked, saturated, without gradients, stepped.

The logits of all of them are those of one linear softmax, or rise with them, so that the smallest
perturbation is known.
"""

import pytest
import torch

from blindspots.attacks import ddn as ddn_module
from blindspots.attacks.best_of import best_of
from blindspots.attacks.closed_form import closed_form_distances
from blindspots.attacks.cuts import cutting_planes
from blindspots.attacks.ddn import ddn
from blindspots.attacks.lbfgs import lbfgs
from blindspots.attacks.objective import Objective
from blindspots.attacks.polish import SAME_LENGTH, polish
from blindspots.models.admission import admit
from blindspots.models.state import frozen

ROWS, SIZE, CLASSES = 50, 64, 10
WEIGHT = torch.randn(CLASSES, SIZE, generator=torch.Generator().manual_seed(0)) / 2
IMAGES = torch.rand(ROWS, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def linear(images):
    return images.flatten(1) @ WEIGHT.T


LABELS = linear(IMAGES).argmax(1)
TARGETS = (LABELS + 1 + torch.arange(ROWS) % 9) % CLASSES


class Of(torch.nn.Module):
    """A network that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def with_class(logit):
    """Return the linear softmax with an eleventh class of a constant logit."""
    return lambda x: torch.cat([linear(x), torch.full((len(x), 1), logit)], dim=1)


class Vanishing(torch.autograd.Function):
    """The identity, whose gradient is no number."""

    @staticmethod
    def forward(context, tensor):
        return tensor.clone()

    @staticmethod
    def backward(context, gradient):
        return torch.full_like(gradient, torch.nan)


# The answers are those of the linear softmax, and so are the smallest perturbations.
SAME_BOUNDARY = {
    "linear": linear,
    "masked at -1e5": with_class(-1e5),
    "masked at -1e9": with_class(-1e9),
    "masked at -inf": with_class(-torch.inf),
    "log of probabilities": lambda x: linear(x).softmax(1).log(),
    "log of probabilities, masked": lambda x: with_class(-torch.inf)(x).softmax(1).log(),
    "1e3 times": lambda x: 1e3 * linear(x),
    "1e20 times": lambda x: 1e20 * linear(x),
    "1e-8 times": lambda x: 1e-8 * linear(x),
    "1e-20 times": lambda x: 1e-20 * linear(x),
    "shifted": lambda x: linear(x) + 100,
}
# Here gradients fade, leap or are missing; what is asked for is that no stage loses anything.
OTHERS = {
    "probabilities": lambda x: linear(x).softmax(1),
    "saturated": lambda x: (50 * linear(x)).softmax(1),
    "stepped": lambda x: linear((x * 255).round() / 255),
    "stepped, straight through": lambda x: linear(x + ((x * 255).round() / 255 - x).detach()),
    "flat where dark": lambda x: torch.relu(linear(x) - 1),
    "logarithms of 0": lambda x: (50 * linear(x)).softmax(1).log(),
    "cubed": lambda x: linear(x) ** 3,
    "kinked": lambda x: linear(x).abs().sqrt() * linear(x).sign(),
    "gradients that are no numbers": lambda x: Vanishing.apply(linear(x)),
}
MODELS = {**SAME_BOUNDARY, **OTHERS}
ENGINES = {
    "lbfgs": lbfgs,
    "ddn": ddn,
    "ddn, polished": lambda *a, **o: ddn(*a, polish_steps=10, cut_steps=20, **o),
    "best_of": best_of,
}


@pytest.fixture(scope="module")
def exact():
    weight = WEIGHT.double()
    bias = torch.zeros(CLASSES, dtype=torch.float64)
    flat = IMAGES.flatten(1).double()
    return closed_form_distances(weight, bias, flat, LABELS).amin(1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SAME_BOUNDARY)
def test_same_boundary_same_distances(name, engine, exact):
    result = ENGINES[engine](Of(SAME_BOUNDARY[name]), IMAGES, LABELS)
    assert result.success.all()
    excess = result.rms.double() / exact - 1
    assert excess.min() > -1e-4
    # DDN alone does not follow the boundary to the nearest point.
    assert excess.mean() < (0.05 if engine == "ddn" else 1e-3)


@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODELS)
def test_successes_are_successes(name, engine, targets):
    network = Of(MODELS[name])
    labels = network(IMAGES).argmax(1)
    goal = None if targets is None else torch.where(targets == labels, (labels + 1) % 10, targets)
    result = ENGINES[engine](network, IMAGES, labels, targets=goal)
    answers = network(result.images).argmax(1)
    fooled = answers != labels if goal is None else answers == goal
    assert fooled[result.success].all()
    assert torch.equal(result.rms.isfinite(), result.success)
    assert torch.equal(result.images[~result.success], IMAGES[~result.success])
    assert result.images.min() >= 0 and result.images.max() <= 1


@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("name", MODELS)
def test_no_stage_loses_what_it_was_given(name, targets):
    """From coarse and long walks, from far successes, and from none."""
    network = Of(MODELS[name])
    labels = network(IMAGES).argmax(1)
    goal = None if targets is None else torch.where(targets == labels, (labels + 1) % 10, targets)
    origin = IMAGES.flatten(1)
    with frozen(network):
        objective = Objective(admit(network, IMAGES), IMAGES.shape[1:], labels, goal)
        objective.suit(origin)
        nothing = torch.full((ROWS,), torch.inf)
        starts = {
            steps: ddn_module.search(objective, origin, steps, 0.1, None) for steps in (5, 40)
        }
        far = origin.roll(1, 0)  # another image
        able = objective.margins(far)[:, 0] > 0
        starts["far"] = far, torch.where(able, (far - origin).norm(dim=1), torch.inf)
        starts["none"] = origin, nothing
        for start, before in starts.values():
            for after in (
                lbfgs_search(objective, origin, start, before),
                polish(objective, origin, start, before, steps=5, cut_steps=0, competitors=9),
                polish(objective, origin, start, before, steps=5, cut_steps=10, competitors=9),
                cutting_planes(objective, origin, start, before, 10),
                ddn_module._pulled_back(objective, origin, start, before),
            ):
                best, distance = after[:2]
                assert best.isfinite().all()
                assert (distance[before.isfinite()]).isfinite().all()
                assert (distance <= before * (1 + SAME_LENGTH) + 1e-6).all()
                found = distance.isfinite()
                length = (best - origin).norm(dim=1)
                torch.testing.assert_close(length[found], distance[found], rtol=1e-5, atol=1e-6)
                assert (objective.margins(best)[found, 0] > 0).all()


def lbfgs_search(objective, origin, start, before):
    from blindspots.attacks.lbfgs import _search

    return _search(objective, origin, start, before, evaluations=6, inner_evaluations=4, pairs=3)
