"""Units of a network beside random directions: all families, every layer."""

from dataclasses import dataclass

import torch

from blindspots.checkpoint import NO_CHECKPOINT
from blindspots.experiments.units.coherence import Coherence
from blindspots.experiments.units.fields import STATISTICS, SUMMARIES
from blindspots.experiments.units.rotation import (
    FRESH,
    compared,
    haar_basis,
    summaries,
    top_images,
)
from blindspots.experiments.units.spaces import INPUT, principal_axes, spaces
from blindspots.progress import Progress
from blindspots.randomness import stable_seed

SHOWN = 4  # directions of each family whose images are shown, as in figures 1 to 4
FEWEST = 2  # units of a layer: in fewer dimensions there is nothing to rotate


@dataclass(frozen=True)
class Units:
    """What was measured of one network.

    Attributes
    ----------
    rows : list of dict
        ``layer``, ``family``, ``statistic``, and the columns of
        `blindspots.experiments.units.rotation.Comparison`; ``directions`` and ``dead`` count units.
    arrays : dict of str to numpy.ndarray
        Behind the figures, by ``<family>/<layer>/`` and ``natural`` or ``random``: the statistics
        of every direction, (len(STATISTICS), D); behind that and ``/top`` the positions of the
        images of some of them, (SHOWN, TOP).
    """

    rows: list
    arrays: dict


def measure_units(trained, untrained, reference, images, labels, bases, seed, checkpoint=None):
    """Compare the natural basis of every layer of a network with random ones.

    Parameters
    ----------
    trained, untrained : dict of str to torch.Tensor of float32, shape (N, D)
        Features of each layer, as `blindspots.models.layers.hidden_features` returns them.
    reference : torch.Tensor of float32, shape (N, R)
        Features in another network.
    images : torch.Tensor of float32, shape (N, C, H, W)
    labels : torch.Tensor of int64, shape (N,)
    bases : int
        Random bases of each null distribution.
    seed : int
    checkpoint : blindspots.checkpoint.NoCheckpoint, optional
        Or another class with its methods; the bases go on from what it has.

    Returns
    -------
    Units

    Raises
    ------
    UserError
        If the images cannot be told apart (`Coherence`).
    """
    checkpoint = checkpoint or NO_CHECKPOINT
    generator = torch.Generator().manual_seed(stable_seed("units", seed) % 2**63)
    # Where responses are equal the first images count, so their order must mean nothing.
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    trained, untrained = (
        {layer: features[order] for layer, features in those.items()}
        for those in (trained, untrained)
    )
    images = images[order]
    coherence = Coherence(labels[order], images, reference[order], generator)
    rows = [
        {"layer": INPUT, "family": "chance", "statistic": name, "value": value, "bases": 0}
        for name, value in coherence.chance.items()
    ]
    arrays, found = {}, spaces(trained, untrained, images, generator)
    progress = Progress("random bases", bases * len(found))
    for number, space in enumerate(found):
        count = space.features.shape[1]
        if count < FEWEST:
            rows += _rows(space.layer, space.family, {}, count, space.dead)
            continue
        test = _Rotations(space, coherence, (seed, space.name))
        null = test.null(bases, checkpoint, lambda b, n=number: progress.report(n * bases + b + 1))
        natural, random = test.natural(), test.fresh()
        rows += _tests(space, space.family, natural, null[:, 0], count)
        if space.family == "units":
            rows += _tests(space, "random", random, null[:, 0], count)
            rows += _tests(space, "pca", test.principal(), null[:, 1], 2 * space.axes)
        for kind, directions in (("natural", natural), ("random", random)):
            values = torch.stack([directions.statistics[name] for name in STATISTICS])
            arrays[f"{space.name}/{kind}"] = values.float().cpu().numpy()
            top = order[directions.top[:SHOWN]]
            arrays[f"{space.name}/{kind}/top"] = top.cpu().numpy()
    return Units(rows, arrays)


@dataclass(frozen=True)
class _Directions:
    top: torch.Tensor
    statistics: dict


class _Rotations:
    """The bases of one space, and what is measured of their directions."""

    def __init__(self, space, coherence, stream):
        self.space, self.coherence, self.stream = space, coherence, stream
        self.images = space.features.T.contiguous()  # (D, N)

    def natural(self):
        """Return what is measured of the units."""
        return self._directions(top_images(self.images))

    def fresh(self):
        """Return what is measured of one random basis more."""
        return self._directions(top_images(self._scores(FRESH)))

    def principal(self):
        """Return what is measured of the principal axes, in both directions."""
        axes = principal_axes(self.space.features, self.space.axes)
        return self._directions(_both(axes @ self.images))

    def null(self, bases, checkpoint, report):
        """Return the summaries of random bases.

        Returns
        -------
        numpy.ndarray of float64, shape (B, 1 or 2, len(SUMMARIES))
            Of all directions of each basis and, for principal axes, of its first ones, in both
            directions.
        """
        stage = f"bases of {self.space.name}"
        saved = checkpoint.load(stage)
        done = [] if saved is None else list(saved)
        for basis in range(len(done), bases):
            scores = self._scores(basis)
            top = top_images(scores)
            count, axes = len(top), self.space.axes
            opposite = top_images(-scores[:axes]) if axes else top[:0]
            statistics = self.coherence(torch.cat([top, opposite]))
            those = [{name: values[:count] for name, values in statistics.items()}]
            if axes:
                both = [*range(axes), *range(count, count + axes)]
                those.append({name: values[both] for name, values in statistics.items()})
            done.append(torch.stack([summaries(some) for some in those]))
            report(basis)
            checkpoint.save(stage, lambda: torch.stack(done), force=basis == bases - 1)
        return torch.stack(done).numpy()

    def _scores(self, basis):
        """Return the responses of the directions of a random basis, (D, N)."""
        return haar_basis(len(self.images), *self.stream, basis).to(self.images) @ self.images

    def _directions(self, top):
        return _Directions(top, self.coherence(top))


def _both(scores):
    """Return the top images of directions and of the opposite ones."""
    return torch.cat([top_images(scores), top_images(-scores)])


def _tests(space, family, directions, null, count):
    """Return the rows of a family."""
    values = summaries(directions.statistics).tolist()
    found = {
        name: compared(value, null[:, column])
        for column, (name, value) in enumerate(zip(SUMMARIES, values, strict=True))
    }
    return _rows(space.layer, family, found, count, space.dead)


def _rows(layer, family, tests, directions, dead):
    """Return a row for each statistic; numbers that there are none of are missing."""
    about = {"layer": layer, "family": family}
    counts = {"directions": directions, "dead": dead}
    rows = []
    for name in SUMMARIES:
        test = tests.get(name)
        rows.append(about | {"statistic": name, **(vars(test) if test else {"bases": 0}), **counts})
    return rows
