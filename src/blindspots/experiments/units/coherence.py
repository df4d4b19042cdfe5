"""How much the images that a direction of some features responds to have in common."""

import itertools

import torch
from torch.nn import functional

from blindspots.errors import UserError
from blindspots.experiments.units.fields import TOP

PAIRS = 2**15  # pairs of random images behind a mean distance, about
CHANCE_SETS = 2000  # sets of random images behind a chance level
AT_ONCE = 2**24  # numbers of the images that are compared together


class Coherence:
    """Statistics of the top images of directions.

    Parameters
    ----------
    labels : torch.Tensor of int64, shape (N,)
    images : torch.Tensor of float32, shape (N, ...)
    reference : torch.Tensor of float32, shape (N, R)
        Features of the same images in another network.
    generator : torch.Generator
        On the CPU; draws the random images that distances are divided by.

    Raises
    ------
    UserError
        If there are too few images, or all of them are alike.
    """

    def __init__(self, labels, images, reference, generator):
        if len(labels) < 2 * TOP:
            raise UserError(
                f"units are told apart by their {TOP} top images, and there are {len(labels)} in "
                f"all; take a split of {2 * TOP} or more"
            )
        self.labels = labels
        reference = reference.double()
        self.points = {
            "ref": coordinates(reference),
            "cosine": coordinates(functional.normalize(reference)),
            "pix": coordinates(images.flatten(1)),
        }
        pairs = _different_pairs(len(labels), PAIRS, generator)
        self.random = {n: _distances(points, *pairs).mean() for n, points in self.points.items()}
        for name, distance in self.random.items():
            if not distance > 0:
                what = "pixels" if name == "pix" else "features in the reference network"
                raise UserError(f"all images have the same {what}; take others")
        self.classes, self.of_label = labels.unique(return_inverse=True)
        self.between = self._between_classes(generator)  # (C, C)
        sets = torch.stack(
            [torch.randperm(len(labels), generator=generator)[:TOP] for _ in range(CHANCE_SETS)]
        )
        self.chance = {n: v.mean().item() for n, v in self(sets.to(labels.device)).items()}

    def __call__(self, top):
        """Return the statistics of each direction.

        Parameters
        ----------
        top : torch.Tensor of int64, shape (D, k)
            Positions of its images.

        Returns
        -------
        dict of str to torch.Tensor of float64, shape (D,)
            ``purity``, the share of the commonest label, and ``entropy`` of the labels, in bits;
            ``ref``, ``cosine`` and ``pix``, the mean distance of two of the images in the
            reference's features, in these scaled to length 1, and in pixels, divided by that of
            random images; ``beyond``, that in pixels divided by that of random images of the same
            labels: below 1 they are alike beyond their class. It is NaN where a class has a single
            image.
        """
        labels = self.labels[top]
        same = (labels[:, :, None] == labels[:, None]).sum(2) / top.shape[1]  # (D, k)
        same = same.double()
        first, second = torch.triu_indices(top.shape[1], top.shape[1], 1, device=top.device)
        classes = self.of_label[top]
        expected = self.between[classes[:, first], classes[:, second]].mean(1)
        spreads = {name: _spread(points, top) for name, points in self.points.items()}
        return {
            "purity": same.max(1).values,
            "entropy": -same.log2().mean(1),
            **{name: spread / self.random[name] for name, spread in spreads.items()},
            "beyond": spreads["pix"] / expected,
        }

    def _between_classes(self, generator):
        """Return the mean distance in pixels of random images of two classes, (C, C)."""
        count = len(self.classes)
        each = max(1, PAIRS // (count * (count + 1) // 2))
        members = [(self.of_label == one).nonzero().flatten() for one in range(count)]
        means = self.points["pix"].new_full((count, count), torch.nan, dtype=torch.float64)
        pairs = list(itertools.combinations_with_replacement(range(count), 2))
        kept, firsts, seconds = [], [], []
        for one, other in pairs:
            if one == other and len(members[one]) < 2:
                continue
            if one == other:
                first, second = _different_pairs(len(members[one]), each, generator)
            else:
                first, second = (
                    torch.randint(len(members[c]), (each,), generator=generator)
                    for c in (one, other)
                )
            kept.append((one, other))
            firsts.append(members[one][first.to(members[one].device)])
            seconds.append(members[other][second.to(members[other].device)])
        distances = _distances(self.points["pix"], torch.cat(firsts), torch.cat(seconds))
        for (one, other), mean in zip(kept, distances.view(-1, each).mean(1), strict=True):
            means[one, other] = means[other, one] = mean
        return means


def coordinates(points):
    """Return points at the same distances of one another in no more dimensions than points.

    Of photographs there are fewer than pixels.

    Parameters
    ----------
    points : torch.Tensor, shape (N, F)

    Returns
    -------
    torch.Tensor of float32, shape (N, min(N, F))
    """
    if points.shape[1] <= len(points):
        return points.float()
    gram = points.new_zeros(len(points), len(points), dtype=torch.float64)
    for part in points.split(max(1, AT_ONCE // len(points)), dim=1):
        centred = (part - part.mean(0)).double()
        gram += centred @ centred.T
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.clamp(min=0).sqrt()).float()


def _different_pairs(count, pairs, generator):
    """Return random positions of two different images each."""
    first = torch.randint(count, (pairs,), generator=generator)
    step = torch.randint(1, count, (pairs,), generator=generator)
    return first, (first + step) % count


def _distances(points, first, second):
    """Return the distances of pairs of points, in double precision."""
    parts = []
    first, second = first.to(points.device), second.to(points.device)
    size = max(1, AT_ONCE // points.shape[1])
    for one, other in zip(first.split(size), second.split(size), strict=True):
        parts.append((points[one] - points[other]).double().norm(dim=1))
    return torch.cat(parts)


def _spread(points, top):
    """Return the mean distance of two of the images of each direction."""
    count = top.shape[1]
    parts = []
    for some in top.split(max(1, AT_ONCE // (count * points.shape[1]))):
        chosen = points[some]
        parts.append(torch.cdist(chosen, chosen).double().sum((1, 2)))
    return torch.cat(parts) / (count * (count - 1))
