"""Minimisation of a network's loss: L-BFGS to convergence, whitened or plain; Adam and SGD."""

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from blindspots.models.stage import NO_STAGE, Stage
from blindspots.models.whitening import Coordinates, whitened
from blindspots.optim.lbfgs import LBFGS
from blindspots.optim.replay import Replayed
from blindspots.optim.stochastic import Adam, Momentum, cosine_rates
from blindspots.progress import Progress

LOG = logging.getLogger(__name__)
ITERATIONS_BETWEEN_TESTS = 20  # of L-BFGS, for convergence
LOOKED_AT = 100  # steps of minibatches on a GPU between looks at the loss
# In units of the tolerance, in either phase in whitened coordinates. The first may begin near a
# minimum, or in poor coordinates. In the second the loss falls so much faster that it is lower than
# where the plain method ends (M1 on half of MNIST: by 1.4 %).
TOLERANCES = 0.1, 3
REFRESHED = 60  # evaluations after which the whitening is taken anew
# How L-BFGS with a preconditioner begins.
START = {"optimizer": "adam", "epochs": 10, "batch_size": 100, "learning_rate": 0.003}


class Loss(NamedTuple):
    """What is minimised over the weights of a network.

    Attributes
    ----------
    of_all : callable
        Without arguments: adds the gradient for all images to ``.grad`` of the weights and returns
        the loss, a scalar tensor.
    of_batch : callable
        ``of_batch(images, labels)`` returns the loss of some images with its graph.
    probe : callable
        As `blindspots.models.whitening.whitened` takes it.
    decays : dict of torch.nn.Parameter to float
        The rates of the weight decay, which is part of neither loss
        (`blindspots.models.training.decay_rates`).
    """

    of_all: Callable
    of_batch: Callable
    probe: Callable
    decays: dict


def minimize_to_convergence(network, loss, images, labels, settings, seed, checkpoint, name):
    """Minimise the loss of all images by L-BFGS.

    With ``preconditioner: kronecker``, ten epochs of Adam come first, then L-BFGS in coordinates
    that are whitened where these have led, and again where its first iterations have led.

    Parameters
    ----------
    network : torch.nn.Module
    loss : Loss
    images, labels : torch.Tensor, shapes (N, ...) and (N, ...)
    settings : dict
        ``preconditioner`` (``kronecker`` or ``none``), and those of `minimize_lbfgs`.
    seed : int
        Of the order of the minibatches, and of the draws of the whitening.
    checkpoint : blindspots.checkpoint.NoCheckpoint
    name : str
        What its stages in the checkpoint are called.

    Returns
    -------
    dict
        As from `minimize_lbfgs`, and ``start``, the record of Adam.
    """
    kronecker = settings["preconditioner"] == "kronecker"
    start, limit, used = {}, settings["max_evaluations"], 0
    if kronecker:
        stages = checkpoint, f"{name}, start"
        start = minimize_stochastic(network, loss, images, labels, START, seed, *stages)
        if start["stopped_by"] == "divergence":
            return start
        start = {"start": start}
    for phase, end in enumerate((min(REFRESHED, limit), limit) if kronecker else (limit,)):
        stage = Stage(checkpoint, f"{name}, {phase}", network)
        record = stage.finished()
        if record is None:
            if kronecker:
                coordinates = whitened(network, images, loss.probe, loss.decays, seed)
            else:
                coordinates = Coordinates(network.parameters())
            tolerance = settings["tolerance"] * (TOLERANCES[phase] if kronecker else 1)
            limits = {**settings, "max_evaluations": end - used, "tolerance": tolerance}
            record = minimize_lbfgs(coordinates, lambda: _with_decay(loss), limits, stage)
            stage.save({"record": record}, force=True)  # the history of L-BFGS goes
        used += record["evaluations"]
        if record["stopped_by"] != "evaluations" or used >= limit:
            break
    return {**record, **start, "evaluations": used}


def _with_decay(loss):
    return loss.of_all() + add_weight_decay(loss.decays)


@torch.no_grad()
def add_weight_decay(rates):
    """Add the gradient of rate / 2 * sum w^2 to that of each weight, and return the sum.

    Parameters
    ----------
    rates : dict of torch.nn.Parameter to float
        Weights without a gradient, which are not trained, count in the sum alone.

    Returns
    -------
    torch.Tensor, scalar, or 0.0 where nothing decays
    """
    if not rates:
        return 0.0
    sizes = torch._foreach_norm(list(rates))
    torch._foreach_mul_(sizes, sizes)
    torch._foreach_mul_(sizes, [rate / 2 for rate in rates.values()])
    trained = [(w, rate) for w, rate in rates.items() if w.grad is not None]
    if trained:
        held, own = zip(*trained, strict=True)
        torch._foreach_add_([w.grad for w in held], torch._foreach_mul(held, own))
    return torch.stack(sizes).sum()


def minimize_lbfgs(coordinates, loss_with_gradient, settings, stage=NO_STAGE):
    """Minimise a full-batch loss with L-BFGS and a strong Wolfe line search.

    Converged means that a block of iterations lowered the loss by less than ``tolerance`` times
    its value, or that no step lowers it any more. A loss that is not finite ends it, too.

    Parameters
    ----------
    coordinates : blindspots.models.whitening.Coordinates
    loss_with_gradient : callable
        Adds the gradient to ``.grad`` of the weights and returns the loss, a scalar tensor.
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
    limit = settings["max_evaluations"]

    @Replayed
    def fun(x):
        coordinates.write(x)
        for parameter in coordinates.parameters:
            parameter.grad = None
        return loss_with_gradient(), coordinates.gradient()

    descent = LBFGS(fun, coordinates.start, settings["history"])
    position = stage.resume({}, descent=descent)
    descent.begin()
    previous = position.get("previous", descent.value)
    progress = Progress("L-BFGS", limit, descent.evaluations)
    stopped_by = "evaluations"
    while descent.evaluations < limit:
        if not descent.iterate():
            stopped_by = "tolerance" if math.isfinite(descent.value) else "divergence"
            break
        progress.report(descent.evaluations, f"loss {descent.value:.6f}")
        if descent.iterations % ITERATIONS_BETWEEN_TESTS == 0:
            if previous - descent.value <= settings["tolerance"] * abs(descent.value):
                stopped_by = "tolerance"
                break
            previous = descent.value
            stage.save({"previous": previous}, descent=descent)
    fun(descent.point)
    norm = torch.cat([p.grad.flatten() for p in coordinates.parameters]).norm().item()
    LOG.info(
        "stopped by %s after %d evaluations, loss %.6f",
        stopped_by,
        descent.evaluations,
        descent.value,
    )
    return {
        "evaluations": descent.evaluations + 1,
        "loss": descent.value,
        "gradient_norm": norm,
        "converged": stopped_by == "tolerance",
        "stopped_by": stopped_by,
    }


def minimize_stochastic(network, loss, images, labels, training, seed, checkpoint, name):
    """Minimise the loss over shuffled minibatches with Adam or SGD, the rate decaying to zero.

    Parameters are those of `minimize_to_convergence`.
    """
    stage = Stage(checkpoint, name, network)
    epochs, batch = training["epochs"], training["batch_size"]
    batches = -(-len(images) // batch)
    rates = cosine_rates(training["learning_rate"], epochs * batches)
    if training["optimizer"] == "adam":
        optimizer = Adam(network.parameters(), rates)
    else:
        optimizer = Momentum(network.parameters(), rates, training["momentum"])
    generator = torch.Generator().manual_seed(seed)
    position = stage.resume({"epoch": 0}, optimizer=optimizer)
    for _ in range(position["epoch"]):  # the orders already gone through
        torch.randperm(len(images), generator=generator)

    def descend(rows):
        optimizer.zero_grad()
        value = loss.of_batch(images[rows], labels[rows])
        value.backward()
        value = value.detach() + add_weight_decay(loss.decays)
        optimizer.step()
        return (value,)

    replayed = Replayed(descend)
    progress = Progress(training["optimizer"], epochs * batches, position["epoch"] * batches)
    for epoch in range(position["epoch"], epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for index, rows in enumerate(order.split(batch)):
            (value,) = (replayed if len(rows) == batch else descend)(rows)
            done = epoch * batches + index + 1
            if images.is_cuda and index % LOOKED_AT and index < batches - 1:
                continue  # numbers have to be waited for
            progress.report(done, f"loss {value.item():.4f}")
            if not math.isfinite(value.item()):
                return {
                    "evaluations": done,
                    "loss": value.item(),
                    "converged": False,
                    "stopped_by": "divergence",
                }
        position = {"epoch": epoch + 1, "loss": value.item()}
        stage.save(position, optimizer=optimizer)
    return {
        "evaluations": epochs * batches,
        "loss": position["loss"],
        "converged": None,
        "stopped_by": "epochs",
    }
