"""Training: weight decay, optimisers, and the sparse code."""

import random

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from blindspots.models import minimize as minimizers
from blindspots.models import training
from blindspots.models.minimize import add_weight_decay, minimize_lbfgs
from blindspots.models.networks import SigmoidCode, build_network
from blindspots.models.training import decay_rates, train_classifier, train_sparse_code
from blindspots.models.whitening import Coordinates

LBFGS = {"optimizer": "lbfgs", "max_evaluations": 100, "history": 10, "tolerance": 1e-5}
LBFGS |= {"preconditioner": "none"}
WHITENED = {**LBFGS, "preconditioner": "kronecker"}
ADAM = {"optimizer": "adam", "epochs": 3, "batch_size": 32, "learning_rate": 0.01}
SGD = {"optimizer": "sgd", "epochs": 3, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9}
PRETRAINING = {"sparsity_target": 0.1, "sparsity_weight": 3.0, "weight_decay": 3e-3}
PRETRAINING |= {"max_evaluations": 150, "history": 20, "tolerance": 1e-5, "preconditioner": "none"}
MLP = {"kind": "mlp", "widths": [8], "activation": "sigmoid"}


@pytest.fixture
def few(digits):
    images, labels = digits
    return images[:200], labels[:200]


def trained(architecture, data, training, seed=0, decay=(1e-4,), **extra):
    """Return a network trained from the given seed and its record."""
    network = build_network(architecture, (1, 8, 8), 10, seed)
    settings = {"weight_decay_convention": "half_l2", "weight_decay": list(decay)}
    record = train_classifier(network, *data, {**settings, **training, **extra}, seed)
    return network, record


def weight_decay(network, decays, convention):
    """Return the weight decay by autograd."""
    rates = decay_rates(network, decays, convention)
    return sum(rate / 2 * weight.square().sum() for weight, rate in rates.items())


def with_gradient(loss):
    """Return a function that computes a loss and adds its gradient to the parameters."""

    def backward():
        value = loss()
        value.backward()
        return value.detach()

    return backward


# Blocks ------------------------------------------------------------------------------------------


def gradient_in_blocks(monkeypatch, block, train):
    """Return loss and gradients of the first evaluation of a training in blocks of images."""
    found = {}

    def first(coordinates, loss_with_gradient, settings, stage):
        value = loss_with_gradient()
        found["values"] = [value.item(), *(p.grad.clone() for p in coordinates.parameters)]
        return {"evaluations": 1, "stopped_by": "tolerance"}

    monkeypatch.setattr(training, "BLOCK", {"cpu": block})
    monkeypatch.setattr(minimizers, "minimize_lbfgs", first)
    train()
    return found["values"]


def test_gradient_of_a_full_batch_is_that_of_its_blocks(few, monkeypatch):
    """Loss and gradient of 200 images in blocks of 64 are those of autograd on all at once."""
    images, labels = few
    network = build_network(MLP, (1, 8, 8), 10, seed=0)
    value, *gradients = gradient_in_blocks(
        monkeypatch,
        64,
        lambda: train_classifier(
            network,
            images,
            labels,
            {**LBFGS, "weight_decay_convention": "half_l2", "weight_decay": [1e-2]},
            seed=0,
        ),
    )
    network.zero_grad()
    whole = nn.functional.cross_entropy(network(images), labels)
    whole = whole + weight_decay(network, [1e-2], "half_l2")
    whole.backward()
    assert value == pytest.approx(whole.item(), rel=1e-6)
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-7)


def test_gradient_of_the_sparse_code_is_that_of_its_blocks(few, monkeypatch):
    """The penalty couples all images: in blocks it must still be that of the mean over all."""
    images = few[0]
    found = []
    for block in (64, 1000):
        code = build_network({"kind": "autoencoder", "units": 20}, (1, 8, 8), 10, seed=0)[1]
        found.append(
            gradient_in_blocks(
                monkeypatch,
                block,
                lambda code=code: train_sparse_code(code, images, PRETRAINING, 0),
            )
        )
    for blocks, whole in zip(*found, strict=True):
        np.testing.assert_allclose(blocks, whole, rtol=1e-4, atol=1e-6)
    # Against finite differences of the loss in one weight.
    code = build_network({"kind": "autoencoder", "units": 20}, (1, 8, 8), 10, seed=0)[1]
    values = []
    for shift in (-1e-2, 1e-2):
        moved = build_network({"kind": "autoencoder", "units": 20}, (1, 8, 8), 10, seed=0)[1]
        with torch.no_grad():
            moved.weight[3, 20] = code.weight[3, 20] + shift
        values.append(
            gradient_in_blocks(
                monkeypatch,
                64,
                lambda moved=moved: train_sparse_code(moved, images, PRETRAINING, 0),
            )[0]
        )
    slope = (values[1] - values[0]) / 2e-2
    assert found[0][1][3, 20].item() == pytest.approx(slope, rel=2e-2, abs=1e-4)


# Weight decay ------------------------------------------------------------------------------------


@pytest.fixture
def two_layers():
    """Weights [[1, 2], [3, 0]] and [[2, -1]], sums of squares 14 and 5; 2 and 1 units."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        network[2].weight.copy_(torch.tensor([[2.0, -1.0]]))
        network[0].bias.fill_(100.0)
    return network


@pytest.mark.parametrize(
    ("convention", "decays", "wanted"),
    [
        ("half_l2", [0.1, 0.01], 0.1 / 2 * 14 + 0.01 / 2 * 5),
        ("half_l2", [0.1], 0.1 / 2 * (14 + 5)),
        ("per_unit", [0.1, 0.01], 0.1 / 2 * 14 + 0.01 / 1 * 5),
        ("per_unit", [0.1], 0.1 / 2 * 14 + 0.1 / 1 * 5),
    ],
)
def test_weight_decay_by_hand(two_layers, convention, decays, wanted):
    """Lambda / 2 sum w^2, or lambda sum w^2 / units; the biases do not count."""
    for parameter in two_layers.parameters():
        parameter.grad = torch.ones_like(parameter)
    rates = decay_rates(two_layers, decays, convention)
    assert add_weight_decay(rates).item() == pytest.approx(wanted)
    for parameter in two_layers.parameters():
        added = rates.get(parameter, 0.0) * parameter.detach()
        torch.testing.assert_close(parameter.grad, 1 + added)


def test_weights_that_are_not_trained_decay_in_the_sum_alone(two_layers):
    rates = decay_rates(two_layers, [0.1], "half_l2")
    two_layers[0].weight.requires_grad_(False)
    two_layers[2].weight.grad = torch.zeros(1, 2)
    assert add_weight_decay(rates).item() == pytest.approx(0.05 * 19)
    assert two_layers[0].weight.grad is None


def test_weight_decay_counts_filters_as_units():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    wanted = network[0].weight.square().sum() / 4 + network[2].weight.square().sum() / 2
    found = add_weight_decay(decay_rates(network, [1.0], "per_unit"))
    torch.testing.assert_close(found, wanted)


def test_wrong_number_of_decays_raises(two_layers):
    with pytest.raises(ValueError, match="3 weight decays for 2"):
        decay_rates(two_layers, [1.0, 1.0, 1.0], "half_l2")


# L-BFGS ------------------------------------------------------------------------------------------


def settings(**changes):
    return {"max_evaluations": 500, "history": 20, "tolerance": 1e-12, **changes}


@pytest.fixture
def quadratic():
    """A parameter and a convex quadratic loss of it, its solution and its smallest value."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(15, 15, generator=generator, dtype=torch.float64)
    hessian = factor @ factor.T + 0.1 * torch.eye(15, dtype=torch.float64)
    right = torch.randn(15, generator=generator, dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(15, dtype=torch.float64))

    def loss():
        return 0.5 * parameter @ hessian @ parameter - right @ parameter

    solution = torch.linalg.solve(hessian, right)
    return parameter, loss, solution, -0.5 * (right @ solution).item()


def test_quadratic_is_minimised(quadratic):
    parameter, loss, solution, smallest = quadratic
    record = minimize_lbfgs(Coordinates([parameter]), with_gradient(loss), settings())
    assert record["converged"] is True and record["stopped_by"] != "evaluations"
    assert record["loss"] == pytest.approx(smallest, rel=1e-9)
    torch.testing.assert_close(parameter.detach(), solution, rtol=1e-4, atol=1e-5)
    assert record["gradient_norm"] < 1e-3


def test_logistic_regression_is_that_of_scipy(few):
    """The same smallest loss of a softmax with weight decay, from another optimiser."""
    images, labels = few[0].flatten(1).double(), few[1]
    network = nn.Linear(64, 10).double()
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()

    def loss():
        decay = weight_decay(network, [1e-2], "half_l2")
        return nn.functional.cross_entropy(network(images), labels) + decay

    limits = settings(max_evaluations=2000, tolerance=1e-9)
    record = minimize_lbfgs(Coordinates(network.parameters()), with_gradient(loss), limits)

    x, one_hot = images.numpy(), np.eye(10)[labels.numpy()]

    def value_and_gradient(flat):
        weight, bias = flat[:640].reshape(10, 64), flat[640:]
        logits = x @ weight.T + bias
        logits -= logits.max(1, keepdims=True)
        probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        value = -np.log((probability * one_hot).sum(1)).mean() + 0.005 * (weight**2).sum()
        slope = (probability - one_hot) / len(x)
        return value, np.concatenate([(slope.T @ x + 0.01 * weight).ravel(), slope.sum(0)])

    options = {"maxiter": 2000, "gtol": 1e-9, "ftol": 1e-15}
    exact = minimize(
        value_and_gradient, np.zeros(650), jac=True, method="L-BFGS-B", options=options
    )
    assert record["converged"] is True
    assert record["loss"] == pytest.approx(exact.fun, rel=1e-7)
    np.testing.assert_allclose(network.weight.detach().numpy().ravel(), exact.x[:640], atol=1e-3)


def test_too_few_evaluations_are_told(quadratic):
    parameter, loss, _, _ = quadratic
    record = minimize_lbfgs(
        Coordinates([parameter]), with_gradient(loss), settings(max_evaluations=5)
    )
    assert record["converged"] is False and record["stopped_by"] == "evaluations"
    assert record["loss"] == pytest.approx(loss().item())


@pytest.mark.parametrize("limit", [2, 21, 40])
def test_evaluations_are_bounded_and_counted(limit, few):
    """As many calls of the loss as the record says; the last line search may need a few more."""
    images, labels = few
    network, calls = build_network(MLP, (1, 8, 8), 10, seed=0), []

    def loss():
        calls.append(1)
        return nn.functional.cross_entropy(network(images), labels)

    record = minimize_lbfgs(
        Coordinates(network.parameters()), with_gradient(loss), settings(max_evaluations=limit)
    )
    assert record["evaluations"] == len(calls)
    assert limit <= record["evaluations"] <= limit + 3


def test_loose_tolerance_stops_early(few):
    images, labels = few
    evaluations = []
    for tolerance in (0.5, 1e-9):
        network = build_network({"kind": "softmax"}, (1, 8, 8), 10, seed=0)
        record = minimize_lbfgs(
            Coordinates(network.parameters()),
            with_gradient(
                lambda network=network: (
                    nn.functional.cross_entropy(network(images), labels)
                    + weight_decay(network, [1e-2], "half_l2")
                )
            ),
            settings(tolerance=tolerance),
        )
        assert record["converged"] is True
        evaluations.append(record["evaluations"])
    assert evaluations[0] < evaluations[1]


def test_start_at_the_minimum_is_converged(quadratic):
    parameter, loss, solution, smallest = quadratic
    with torch.no_grad():
        parameter.copy_(solution)
    record = minimize_lbfgs(Coordinates([parameter]), with_gradient(loss), settings())
    assert record["converged"] is True
    assert record["loss"] == pytest.approx(smallest, rel=1e-9)


def test_parameters_without_gradient_stay(quadratic):
    parameter, loss, _, _ = quadratic
    frozen = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)
    minimize_lbfgs(
        Coordinates([frozen, parameter]), with_gradient(lambda: loss() + frozen.sum()), settings()
    )
    assert torch.equal(frozen, torch.ones(2, dtype=torch.float64))


# Classifiers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "training", [LBFGS, WHITENED, ADAM, SGD], ids=["lbfgs", "whitened", "adam", "sgd"]
)
def test_loss_falls(few, training):
    """From that of fresh weights, log 10 or so, with an optimiser's own record."""
    images, labels = few
    fresh = build_network(MLP, (1, 8, 8), 10, seed=0)
    before = nn.functional.cross_entropy(fresh(images), labels).item()
    network, record = trained(MLP, few, training)
    after = nn.functional.cross_entropy(network(images), labels).item()
    assert after < 0.95 * before
    assert record["evaluations"] > 0 and np.isfinite(record["loss"])
    if training in (LBFGS, WHITENED):
        assert isinstance(record["converged"], bool)
    else:
        assert record["converged"] is None and record["stopped_by"] == "epochs"
        assert record["evaluations"] == 3 * 7  # 200 images in batches of 32


@pytest.mark.parametrize(
    "training", [LBFGS, WHITENED, ADAM, SGD], ids=["lbfgs", "whitened", "adam", "sgd"]
)
def test_same_seed_same_bytes(few, training):
    """And another seed, another network."""
    one, same, other = (trained(MLP, few, training, seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_seed_orders_the_minibatches(few):
    """The same fresh weights, another order."""
    networks = [build_network({"kind": "softmax"}, (1, 8, 8), 10, seed=0) for _ in range(2)]
    training = {**SGD, "weight_decay_convention": "half_l2", "weight_decay": [0.0]}
    for seed, network in enumerate(networks):
        train_classifier(network, *few, training, seed)
    assert not torch.equal(networks[0][1].weight, networks[1][1].weight)


def test_weight_decay_shrinks_the_weights(few):
    sizes = [
        trained({"kind": "softmax"}, few, LBFGS, decay=[decay])[0][1].weight.norm().item()
        for decay in (1e-4, 1e-2, 1.0)
    ]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2]


def test_training_of_a_convolutional_network(few):
    architecture = {"kind": "conv", "channels": [4], "units": 8}
    network, _ = trained(architecture, few, {**ADAM, "epochs": 20, "learning_rate": 0.03})
    assert (network(few[0]).argmax(1) == few[1]).float().mean() > 0.6


# The sparse code ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_mean_activation_moves_to_the_target(few, target):
    """Of every unit, from about one half."""
    code = build_network({"kind": "autoencoder", "units": 20}, (1, 8, 8), 10, seed=0)[1]
    flat = few[0].flatten(1)
    before = code(flat).mean(0).detach()
    record = train_sparse_code(code, few[0], {**PRETRAINING, "sparsity_target": target}, 0)
    after = code(flat).mean(0).detach()
    assert (before - target).abs().mean() > 0.15
    assert (after - target).abs().max() < 0.05
    assert record["evaluations"] > 10


def test_code_reconstructs(few):
    """Better than the mean image does, which is what a decoder without a code can say."""
    code = build_network({"kind": "autoencoder", "units": 20}, (1, 8, 8), 10, seed=0)[1]
    record = train_sparse_code(code, few[0], PRETRAINING, 0)
    flat = few[0].flatten(1)
    mean_error = 0.5 * (flat - flat.mean(0)).square().sum().item() / len(flat)
    assert record["loss"] < 0.9 * mean_error


def test_code_is_frozen_before_the_classifier_is_trained(few):
    """Its weights are those of pretraining alone, whatever the classifier's training."""
    architecture = {"kind": "autoencoder", "units": 12}
    alone = build_network(architecture, (1, 8, 8), 10, seed=0)[1]
    train_sparse_code(alone, few[0], PRETRAINING, 0)
    network, record = trained(architecture, few, LBFGS, pretraining=PRETRAINING)
    code = network[1]
    assert isinstance(code, SigmoidCode)
    assert torch.equal(code.weight, alone.weight) and torch.equal(code.bias, alone.bias)
    assert not any(parameter.requires_grad for parameter in code.parameters())
    assert record["pretraining"]["evaluations"] > 0


def test_classifier_on_the_code_learns(few):
    """Through the frozen code, with a loss that is that of the whole network."""
    images, labels = few
    network, record = trained(
        {"kind": "autoencoder", "units": 30}, few, LBFGS, decay=[1e-6], pretraining=PRETRAINING
    )
    assert (network(images).argmax(1) == labels).float().mean() > 0.8
    whole = nn.functional.cross_entropy(network(images), labels).item()
    whole += 0.5e-6 * network[-1].weight.square().sum().item()
    assert record["loss"] == pytest.approx(whole, rel=1e-3)


def test_what_a_network_draws_follows_from_the_seed(few):
    """Dropout, whatever was drawn before; the global random state is left alone."""

    def weights(seed):
        torch.random.default_generator.seed()
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 10))
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.01)
        state = torch.get_rng_state()
        settings = {"weight_decay_convention": "half_l2", "weight_decay": [1e-4]}
        train_classifier(network, *few, {**settings, **SGD}, seed)
        assert torch.equal(torch.get_rng_state(), state)
        return network[1].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("settings", [SGD, LBFGS, WHITENED])
def test_network_without_layers_that_decay(few, settings):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10, 64))

        def forward(self, images):
            return images.flatten(1) @ self.weight.T

    network, decay = Own(), {"weight_decay_convention": "half_l2", "weight_decay": [1e-4]}
    record = train_classifier(network, *few, {**decay, **settings}, 0)
    assert record["loss"] < 2.3


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("settings", [SGD, LBFGS, WHITENED])
def test_network_without_weights_to_train(few, settings, frozen):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10) if frozen else nn.AvgPool1d(6))
    network.requires_grad_(False)
    decay = {"weight_decay_convention": "half_l2", "weight_decay": [1e-4]}
    with pytest.raises(ValueError, match="no weights to train, or all of them are frozen"):
        train_classifier(network, *few, {**decay, **settings}, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {**SGD, "epochs": 50},
        {**LBFGS, "max_evaluations": 900},
        {**WHITENED, "max_evaluations": 900},
    ],
)
def test_divergence_ends_training_at_once(few, settings):
    """A loss that is not a number does not become one again."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(network[1].weight, 1e30)
    decay = {"weight_decay_convention": "half_l2", "weight_decay": [1e-4]}
    record = train_classifier(network, *few, {**decay, **settings}, 0)
    assert not np.isfinite(record["loss"])
    assert record["stopped_by"] == "divergence" and record["converged"] is False
    assert record["evaluations"] < 30


def test_network_of_a_user_that_draws_elsewhere(few):
    """From numpy and Python in its forward pass: the same bytes, and another seed others."""

    class Scattered(nn.Linear):
        def forward(self, images):
            noise = torch.tensor(np.random.randn(*images.shape)).float()
            return super().forward((images + random.random() * noise).flatten(1))

    def weights(seed):
        random.seed(), np.random.seed()
        network = Scattered(64, 10)
        nn.init.zeros_(network.weight), nn.init.zeros_(network.bias)
        decay = {"weight_decay_convention": "half_l2", "weight_decay": [1e-4]}
        train_classifier(network, *few, {**decay, **SGD}, seed)
        return network.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
