"""Several attacks, and of each image the smallest success."""

from dataclasses import dataclass

import torch

from blindspots.attacks.chunks import classes_of
from blindspots.attacks.engines import engine
from blindspots.attacks.result import AdversarialResult, closer, pick

# From a coarse start, with the method's own search, and from a walk of DDN. The first goes on for
# long where the boundary has kinks: that finds more than several shorter ones together.
MEMBERS = (
    {"method": "lbfgs", "options": {"cut_steps": 300}},
    {"method": "lbfgs", "options": {"start_steps": 0, "evaluations": 30, "cut_steps": 50}},
    {"method": "ddn", "options": {"steps": 50, "polish_steps": 10, "cut_steps": 50}},
)
# Where classes are many, so are the ways to a target, and long walks find the shorter ones.
MANY_CLASSES = 100
MEMBERS_FOR_MANY_CLASSES = (
    {"method": "lbfgs", "options": {"cut_steps": 300}},
    {"method": "ddn", "options": {"steps": 1000, "polish_steps": 10, "cut_steps": 100}},
    {
        "method": "ddn",
        "options": {"steps": 1000, "gamma": 0.1, "polish_steps": 10, "cut_steps": 100},
    },
)


@dataclass(frozen=True, repr=False)
class BestOfResult(AdversarialResult):
    """An `AdversarialResult` that knows who found what.

    Attributes
    ----------
    winners : torch.Tensor of int64, shape (B,)
        Position of the member that found the image; -1 where all failed.
    """

    winners: torch.Tensor

    def shares(self, members):
        """Return the share of the images that each member won, in the order of the members."""
        return [(self.winners == k).float().mean().item() for k in range(len(members))]


def members_for(classes):
    """Return the members of `best_of` that are taken where none are given."""
    return MEMBERS if classes <= MANY_CLASSES else MEMBERS_FOR_MANY_CLASSES


def best_of(model, images, labels, *, targets=None, members=None, chunk=1000):
    """Run several attacks and keep the smallest success of each image.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images in [0, 1] to logits.
    images : torch.Tensor of float32, shape (B, ...)
        In [0, 1].
    labels : torch.Tensor of int64, shape (B,)
    targets : torch.Tensor of int64 of shape (B,), "nearest" or None
        As for `blindspots.attacks.lbfgs.lbfgs`.
    members : sequence of dict, optional
        ``method``: ``"lbfgs"``, ``"ddn"``, or an attack of another library or of a user
        (`blindspots.attacks.external.external`); ``options``: its keyword arguments. Of equal
        distances the first counts. None: those of `members_for`.
    chunk : int
        The most images computed together; bounds the memory. On a CPU, fewer where layers are
        large.

    Returns
    -------
    BestOfResult
        Its evaluations are those of all members together.

    Raises
    ------
    ValueError
        If there is no member, or an argument of one is out of range.
    """
    if members is None:
        members = members_for(classes_of(model, images, labels, targets, chunk))
    if not members:
        raise ValueError("best_of needs at least one member")
    attacks = [(engine(member["method"]), member.get("options", {})) for member in members]
    best = None
    for number, (attack, options) in enumerate(attacks):
        result = attack(model, images, labels, targets=targets, chunk=chunk, **options)
        if best is None:
            winners = torch.where(result.success, number, -1)
            best, evaluations = result, result.evaluations
            continue
        better = closer(result, best)
        best = pick(better, result, best)
        winners = torch.where(better, number, winners)
        evaluations = evaluations + result.evaluations
    return BestOfResult(**{**vars(best), "evaluations": evaluations, "winners": winners})
