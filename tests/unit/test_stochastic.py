"""Adam and momentum step as torch's, and go on from a checkpoint."""

import pytest
import torch
from torch import nn

from blindspots.optim.stochastic import Adam, Momentum, cosine_rates

STEPS = 30
OURS = {"adam": Adam, "sgd": lambda parameters, rates: Momentum(parameters, rates, 0.9)}
THEIRS = {
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
}


def problem():
    """Return a layer and gradients of it for each step."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(5, 3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    draws = [
        [torch.randn(p.shape, generator=generator) for p in layer.parameters()]
        for _ in range(STEPS)
    ]
    return layer, draws


def give(layer, gradients):
    for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()


def run(layer, optimizer, draws):
    for gradients in draws:
        give(layer, gradients)
        optimizer.step()


@pytest.mark.parametrize("kind", OURS)
def test_steps_are_those_of_torch(kind):
    layer, draws = problem()
    run(layer, OURS[kind](layer.parameters(), cosine_rates(0.1, STEPS)), draws)
    other, _ = problem()
    theirs = THEIRS[kind](other.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, STEPS)
    for gradients in draws:
        give(other, gradients)
        theirs.step()
        schedule.step()
    torch.testing.assert_close(layer.weight, other.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.bias, other.bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", OURS)
def test_it_goes_on_from_a_state(kind):
    layer, draws = problem()
    whole = OURS[kind](layer.parameters(), cosine_rates(0.1, STEPS))
    run(layer, whole, draws[:10])
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    kept = whole.state_dict()
    state = {
        "done": kept["done"].clone(),
        "states": [[tensor.clone() for tensor in part] for part in kept["states"]],
    }
    run(layer, whole, draws[10:])
    other, _ = problem()
    other.load_state_dict(weights)
    again = OURS[kind](other.parameters(), cosine_rates(0.1, STEPS))
    again.load_state_dict(state)
    run(other, again, draws[10:])
    assert torch.equal(layer.weight, other.weight) and torch.equal(layer.bias, other.bias)


def test_rates_fall_to_zero_along_half_a_cosine():
    assert cosine_rates(2.0, 4) == pytest.approx([2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5])


@pytest.mark.parametrize("kind", OURS)
def test_what_has_no_gradient_stays(kind):
    layer, _ = problem()
    layer.bias.requires_grad_(False)
    before = layer.bias.clone()
    optimizer = OURS[kind](layer.parameters(), cosine_rates(0.1, STEPS))
    optimizer.step()  # without any gradient
    weight = problem()[0].weight
    assert torch.equal(layer.weight, weight) and torch.equal(layer.bias, before)
    optimizer.zero_grad()
    assert layer.weight.grad is None
