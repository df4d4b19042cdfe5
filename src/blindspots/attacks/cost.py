"""About how long an attack will take, before it begins.

From how many gradients the engines take for an image, and how long one takes here. The numbers are
means over the networks of `docs/benchmarks`; of single networks they are off by up to two.
"""

import inspect
import math

from blindspots.attacks.best_of import members_for
from blindspots.attacks.engines import ENGINES
from blindspots.attacks.lbfgs import start_steps_for
from blindspots.models.timing import speed_of

GRADIENTS_OF_A_PROJECTION = 2.5
WITH_KINKS = 0.4  # share of the images whose boundary has kinks: 0 or 1 of most networks
PULLING_BACK = 3
# What an engine does with the pixels for each gradient, in operations on them.
PIXELS = {"lbfgs": 60, "ddn": 15}
FORWARD = 1 / 3  # of a pass with gradient


def gradients_of(method, options, classes):
    """Return about how many gradients a method takes for an image and a target.

    Parameters
    ----------
    method : str
        ``lbfgs`` or ``ddn``.
    options : dict
        Its options; those that are missing have their defaults.
    classes : int

    Returns
    -------
    float
    """
    known = inspect.signature(ENGINES[method]).parameters
    told = {name: options.get(name, parameter.default) for name, parameter in known.items()}
    walk = GRADIENTS_OF_A_PROJECTION * told["polish_steps"] + WITH_KINKS * told["cut_steps"]
    if method == "ddn":
        return told["steps"] + (walk or PULLING_BACK)
    start = told["start_steps"]
    start = start_steps_for(classes) if start is None else start
    return start + told["evaluations"] + 1 + walk


def seconds_of(network, images, targets, attack, chunk, speed=speed_of):
    """Return about how long an attack on some images will take.

    Parameters
    ----------
    network : torch.nn.Module
    images : torch.Tensor of float32, shape (B, ...)
    targets : torch.Tensor, "nearest" or None
        As for `blindspots.attacks.lbfgs.lbfgs`.
    attack : dict
        ``method`` and ``options``, as in a configuration.
    chunk : int
        Images attacked together.
    speed : callable
        `blindspots.models.timing.speed_of`.

    Returns
    -------
    float or None
        Seconds; None for methods of other libraries and of users, or where nothing is to be done.
    """
    if len(images) == 0 or attack["method"] not in (*PIXELS, "best_of"):
        return None
    found = speed(network, images, gradient=True)
    if found is None:
        return None
    members = [attack]
    if attack["method"] == "best_of":
        members = attack["options"].get("members") or members_for(found.classes)
    if any(member["method"] not in PIXELS for member in members):
        return None
    # "nearest" tries every wrong label.
    rounds = found.classes - 1 if isinstance(targets, str) else 1
    chunks = math.ceil(len(images) / chunk)
    seconds = 0.0
    for member in members:
        gradients = gradients_of(member["method"], member.get("options", {}), found.classes)
        each = gradients * (found.pass_ + PIXELS[member["method"]] * found.pixels)
        seconds += len(images) * rounds * each + chunks * FORWARD * found.looks * found.pass_
    return seconds
