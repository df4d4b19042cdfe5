"""Training of classifiers: cross-entropy with quadratic weight decay, by L-BFGS, Adam or SGD."""

import logging
import math

import torch
from torch import nn

from blindspots.checkpoint import NO_CHECKPOINT
from blindspots.models.networks import SigmoidCode, linear_layers
from blindspots.models.stage import NO_STAGE, Stage
from blindspots.progress import Progress
from blindspots.seeding import seeded

LOG = logging.getLogger(__name__)
EVALUATIONS_BETWEEN_TESTS = 20  # L-BFGS iterations between two tests for convergence
BLOCK = 4000  # images of a full batch that pass together: their activations stay in the cache


def weight_decay(network, decays, convention):
    """Return the quadratic weight decay of a network; biases do not decay.

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
    torch.Tensor, scalar
    """
    layers = linear_layers(network)
    if len(decays) == 1:
        decays = decays * len(layers)
    if len(decays) != len(layers):
        raise ValueError(f"{len(decays)} weight decays for {len(layers)} trainable layers")
    parameters = list(network.parameters())
    if not any(parameter.requires_grad for parameter in parameters):
        raise ValueError("the network has no weights to train, or all of them are frozen")
    total = torch.zeros((), device=parameters[0].device)
    for decay, layer in zip(decays, layers, strict=True):
        factor = decay / 2 if convention == "half_l2" else decay / layer.weight.shape[0]
        total = total + factor * layer.weight.square().sum()
    return total


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
        record["pretraining"] = train_sparse_code(code, images, training["pretraining"], checkpoint)
        code.requires_grad_(False)
    head = network
    if codes:  # the code is frozen and comes first: compute it once
        with torch.no_grad():
            images = codes[0](images.flatten(1))
        head = network[-1]

    def decay():
        return weight_decay(head, training["weight_decay"], training["weight_decay_convention"])

    def loss(x, y):
        return nn.functional.cross_entropy(head(x), y) + decay()

    def full_batch():
        total = _backward(decay())
        for x, y in zip(images.split(BLOCK), labels.split(BLOCK), strict=True):
            error = nn.functional.cross_entropy(head(x), y, reduction="sum")
            total += _backward(error / len(images))
        return total

    decay()  # refuses a network that cannot be trained
    stage = Stage(checkpoint, "training", head)
    if training["optimizer"] == "lbfgs":
        record |= minimize_lbfgs(head.parameters(), full_batch, training, stage)
    else:
        record |= _minimize_stochastic(
            head.parameters(), loss, images, labels, training, seed, stage
        )
    return record


def _backward(part):
    """Add the gradient of a part of the loss, if it has one, and return its value."""
    if part.requires_grad:
        part.backward()
    return part.detach()


def train_sparse_code(code, images, pretraining, checkpoint=NO_CHECKPOINT):
    """Train a sigmoid code as a sparse auto-encoder with a sigmoid decoder, by L-BFGS.

    Mean over images of half the squared reconstruction error, plus ``sparsity_weight`` times the
    Kullback-Leibler divergence of each unit's mean activation from ``sparsity_target``, plus
    ``weight_decay`` / 2 times the squared weights.

    Parameters
    ----------
    code : SigmoidCode
    images : torch.Tensor of float32, shape (N, ...)
    pretraining : dict
        The three numbers named above and L-BFGS settings.
    checkpoint
        As for `train_classifier`.

    Returns
    -------
    dict
        As from `minimize_lbfgs`.
    """
    flat = images.flatten(1)
    units, inputs = code.weight.shape
    decoder = nn.Linear(units, inputs)
    nn.init.xavier_uniform_(decoder.weight, generator=torch.Generator().manual_seed(units))
    nn.init.zeros_(decoder.bias)
    decoder.to(flat.device)  # now: the draws are the CPU's
    target = pretraining["sparsity_target"]
    stage = Stage(checkpoint, "pretraining", code, decoder)
    position = stage.resume({})
    if "record" in position:
        return position["record"]

    def full_batch():
        with torch.no_grad():
            sums = sum(code(x).sum(0) for x in flat.split(BLOCK))
        mean = (sums / len(flat)).clamp_(1e-6, 1 - 1e-6).requires_grad_(True)
        divergence = (
            target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()
        )
        penalty = _backward(pretraining["sparsity_weight"] * divergence.sum())
        size = code.weight.square().sum() + decoder.weight.square().sum()
        total = penalty + _backward(pretraining["weight_decay"] / 2 * size)
        for x in flat.split(BLOCK):
            hidden = code(x)
            error = 0.5 * (torch.sigmoid(decoder(hidden)) - x).square().sum() / len(flat)
            # The penalty is one of the mean over all images: it acts through its derivative.
            (error + (hidden.sum(0) * mean.grad).sum() / len(flat)).backward()
            total += error.detach()
        return total

    parameters = [*code.parameters(), *decoder.parameters()]
    record = minimize_lbfgs(parameters, full_batch, pretraining, stage)
    stage.save({"record": record}, force=True)  # the history of L-BFGS goes
    return record


def minimize_lbfgs(parameters, loss_with_gradient, settings, stage=NO_STAGE):
    """Minimise a full-batch loss with L-BFGS and a strong Wolfe line search.

    Converged means that a block of iterations lowered the loss by less than ``tolerance`` times
    its value, or that no step lowers it any more. A loss that is not finite ends it, too.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
    loss_with_gradient : callable
        Adds the gradient to ``.grad`` of the parameters and returns the loss, a scalar tensor.
    settings : dict
        ``max_evaluations`` (no iteration begins after as many; the last may need a few more),
        ``history``, ``tolerance``.
    stage : Stage
        Where to go on from, and what to save.

    Returns
    -------
    dict
        ``evaluations``, ``loss``, ``gradient_norm``, ``converged``, ``stopped_by``.
    """
    parameters = [p for p in parameters if p.requires_grad]
    limit = settings["max_evaluations"]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=EVALUATIONS_BETWEEN_TESTS,
        max_eval=limit,
        history_size=settings["history"],
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )
    position = stage.resume({"used": 0, "previous": float("inf")}, optimizer=optimizer)
    used, previous = position["used"], position["previous"]
    progress = Progress("L-BFGS", limit, used)

    def closure():
        nonlocal used, begun
        used += 1
        optimizer.zero_grad()
        value = loss_with_gradient()
        progress.report(used, f"loss {value.item():.6f}")
        if not begun and not value.isfinite():  # within a block, a line search steps back
            raise FloatingPointError
        begun = True
        return value

    stopped_by, begun = "evaluations", True
    while used < limit:
        optimizer.param_groups[0]["max_eval"] = limit - used
        begun = False
        try:
            value = optimizer.step(closure).item()  # the loss at the start of this block
        except FloatingPointError:
            stopped_by, begun = "divergence", True
            break
        if previous - value <= settings["tolerance"] * abs(value):
            stopped_by = "tolerance"
            break
        previous = value
        stage.save({"used": used, "previous": previous}, optimizer=optimizer)
    value = closure().item()
    norm = torch.cat([p.grad.flatten() for p in parameters]).norm().item()
    LOG.info("stopped by %s after %d evaluations, loss %.6f", stopped_by, used, value)
    return {
        "evaluations": used,
        "loss": value,
        "gradient_norm": norm,
        "converged": stopped_by == "tolerance",
        "stopped_by": stopped_by,
    }


def _minimize_stochastic(parameters, loss, images, labels, training, seed, stage):
    """Minimise the loss over shuffled minibatches with Adam or SGD, the rate decaying to zero."""
    epochs, batch = training["epochs"], training["batch_size"]
    rate = training["learning_rate"]
    if training["optimizer"] == "adam":
        optimizer = torch.optim.Adam(parameters, lr=rate)
    else:
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=training["momentum"])
    batches = -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    generator = torch.Generator().manual_seed(seed)
    position = stage.resume({"epoch": 0}, optimizer=optimizer, schedule=schedule)
    for _ in range(position["epoch"]):  # the orders already gone through
        torch.randperm(len(images), generator=generator)
    progress = Progress(training["optimizer"], epochs * batches, position["epoch"] * batches)
    for epoch in range(position["epoch"], epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for index, rows in enumerate(order.split(batch)):
            optimizer.zero_grad()
            value = loss(images[rows], labels[rows])
            value.backward()
            optimizer.step()
            schedule.step()
            done = epoch * batches + index + 1
            progress.report(done, f"loss {value.item():.4f}")
            if not math.isfinite(value.item()):
                return {
                    "evaluations": done,
                    "loss": value.item(),
                    "converged": False,
                    "stopped_by": "divergence",
                }
        position = {"epoch": epoch + 1, "loss": value.item()}
        stage.save(position, optimizer=optimizer, schedule=schedule)
    return {
        "evaluations": epochs * batches,
        "loss": position["loss"],
        "converged": None,
        "stopped_by": "epochs",
    }
