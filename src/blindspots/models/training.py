"""Training of classifiers and sparse codes: their losses, with quadratic weight decay."""

import torch
from torch import nn

from blindspots.checkpoint import NO_CHECKPOINT
from blindspots.models.minimize import Loss, minimize_stochastic, minimize_to_convergence
from blindspots.models.networks import SigmoidCode, linear_layers
from blindspots.models.whitening import random_signs
from blindspots.seeding import seeded

# Images of a full batch that pass together: on a CPU their activations stay in the cache, on a GPU
# the memory is bounded.
BLOCK = {"cpu": 4000, "cuda": 10000}


def decay_rates(network, decays, convention):
    """Return by how much each weight decays: the loss has rate / 2 * sum w^2; biases do not decay.

    Parameters
    ----------
    network : torch.nn.Module
    decays : list of float
        Lambda of each trainable layer from input to output, or one for all.
    convention : str
        ``half_l2``: lambda / 2 * sum w^2, which reproduces the error rates that the paper prints;
        ``per_unit``: lambda * sum w^2 / k with k units in the layer, as its text says.

    Returns
    -------
    dict of torch.nn.Parameter to float

    Raises
    ------
    ValueError
        If there are neither one nor as many decays as layers, or if no weight can be trained.
    """
    layers = linear_layers(network)
    if len(decays) == 1:
        decays = decays * len(layers)
    if len(decays) != len(layers):
        raise ValueError(f"{len(decays)} weight decays for {len(layers)} trainable layers")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError("the network has no weights to train, or all of them are frozen")
    return {
        layer.weight: decay if convention == "half_l2" else 2 * decay / layer.weight.shape[0]
        for decay, layer in zip(decays, layers, strict=True)
    }


def train_classifier(network, images, labels, training, seed, checkpoint=NO_CHECKPOINT):
    """Train a network in place.

    Parameters
    ----------
    network : torch.nn.Module
    images : torch.Tensor of float32, shape (N, ...)
    labels : torch.Tensor of int64, shape (N,)
    training : dict
        ``optimizer`` and its settings, ``weight_decay`` (list), ``weight_decay_convention``; for an
        auto-encoder ``pretraining``.
    seed : int
        Seed of the order of the minibatches, and of what the network draws (dropout), from torch,
        numpy or Python; the global random states are left alone.
    checkpoint : blindspots.checkpoint.NoCheckpoint
        Or another class with its methods; training goes on from what it has, with the same result.

    Returns
    -------
    dict
        The record: evaluations used, final loss, whether it converged and by what test.
    """
    with seeded((seed + 1) % 2**63, images.device):  # other draws than those of the weights
        return _train(network, images, labels, training, seed, checkpoint)


def _train(network, images, labels, training, seed, checkpoint):
    record = {}
    codes = [m for m in network.modules() if isinstance(m, SigmoidCode)]
    for code in codes:
        settings = training["pretraining"]
        record["pretraining"] = train_sparse_code(code, images, settings, seed, checkpoint)
        code.requires_grad_(False)
    head = network
    if codes:  # the code is frozen and comes first: compute it once
        with torch.no_grad():
            images = codes[0](images.flatten(1))
        head = network[-1]

    def of_batch(x, y):
        return nn.functional.cross_entropy(head(x), y)

    block = BLOCK[images.device.type]

    def of_all():
        total = torch.zeros((), device=images.device)
        for x, y in zip(images.split(block), labels.split(block), strict=True):
            error = nn.functional.cross_entropy(head(x), y, reduction="sum")
            total += _backward(error / len(images))
        return total

    def probe(x, generator):
        logits = head(x)
        root = logits.detach().softmax(1).sqrt()
        noise = root * random_signs(logits, generator)
        # Their covariance is that of the residuals of labels drawn from the model, without the
        # rare large ones.
        residuals = noise - root.square() * noise.sum(1, keepdim=True)
        return (logits * residuals).sum()

    rates = decay_rates(head, training["weight_decay"], training["weight_decay_convention"])
    loss = Loss(of_all, of_batch, probe, rates)
    lbfgs = training["optimizer"] == "lbfgs"
    minimize = minimize_to_convergence if lbfgs else minimize_stochastic
    return record | minimize(head, loss, images, labels, training, seed, checkpoint, "training")


def _backward(part):
    """Add the gradient of a part of the loss, if it has one, and return its value."""
    if part.requires_grad:
        part.backward()
    return part.detach()


def train_sparse_code(code, images, pretraining, seed, checkpoint=NO_CHECKPOINT):
    """Train a sigmoid code as a sparse auto-encoder with a sigmoid decoder, by L-BFGS.

    Mean over images of half the squared reconstruction error, plus ``sparsity_weight`` times the
    Kullback-Leibler divergence of each unit's mean activation from ``sparsity_target``, plus
    ``weight_decay`` / 2 times the squared weights.

    Parameters
    ----------
    code : SigmoidCode
    images : torch.Tensor of float32, shape (N, ...)
    pretraining : dict
        The three numbers named above, ``preconditioner`` and L-BFGS settings.
    seed : int
        Of the draws of the start and of the whitening.
    checkpoint
        As for `train_classifier`.

    Returns
    -------
    dict
        As from `blindspots.models.minimize.minimize_to_convergence`.
    """
    flat = images.flatten(1)
    units, inputs = code.weight.shape
    decoder = nn.Linear(units, inputs)
    nn.init.xavier_uniform_(decoder.weight, generator=torch.Generator().manual_seed(units))
    nn.init.zeros_(decoder.bias)
    decoder.to(flat.device)  # now: the draws are the CPU's
    network = nn.Sequential(code, decoder, nn.Sigmoid())
    target = pretraining["sparsity_target"]

    def penalty(mean):
        mean = mean.clamp(1e-6, 1 - 1e-6)
        divergence = (
            target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()
        )
        return pretraining["sparsity_weight"] * divergence.sum()

    def squares(hidden, x):
        return 0.5 * (torch.sigmoid(decoder(hidden)) - x).square().sum()

    def of_batch(x, _):
        hidden = code(x)
        return squares(hidden, x) / len(x) + penalty(hidden.mean(0))

    def of_all():
        blocks = flat.split(BLOCK[flat.device.type])
        codes = [code(x) for x in blocks]
        mean = (sum(hidden.detach().sum(0) for hidden in codes) / len(flat)).requires_grad_(True)
        total = _backward(penalty(mean))
        for x, hidden in zip(blocks, codes, strict=True):
            error = squares(hidden, x) / len(flat)
            # The penalty is one of the mean over all images: it acts through its derivative.
            (error + (hidden.sum(0) * mean.grad).sum() / len(flat)).backward()
            total += error.detach()
        return total

    def probe(x, generator):
        reconstruction = network(x)
        return (reconstruction * random_signs(reconstruction, generator)).sum()

    weights = code.weight, decoder.weight
    loss = Loss(of_all, of_batch, probe, dict.fromkeys(weights, pretraining["weight_decay"]))
    return minimize_to_convergence(
        network, loss, flat, flat, pretraining, seed, checkpoint, "pretraining"
    )
