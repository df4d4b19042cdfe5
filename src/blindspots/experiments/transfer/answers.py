"""The answers to single images behind the transfer table, and means over seeds from them."""

import numpy as np

from blindspots.evaluation.seeds import mean_of_runs, mean_rms

SET = ["source", "seed", "attack"]


class Answers:
    """Which images each cell of the transfer table is over, and which of them fooled the victim.

    Parameters
    ----------
    cells : pandas.DataFrame
        The whole tidy transfer table, columns as in `fields.FIELDS`. The
        cells of one set of images stand in its order: one variant after the other, and in each
        the same victims.
    tensors : dict of str to ndarray
        For each set, by ``<source>/<seed>/<attack>/``: ``indices`` (B,) of its images in their
        base set; ``right``, one row for each victim, and ``fooled``, one row for each cell, packed
        bits: whether the victim is right on the clean image, and fooled by the perturbed one; of
        adversarial sets ``rms`` (B,), NaN where the attack failed.
    """

    def __init__(self, cells, tensors):
        self._tensors = tensors
        self._place = cells.groupby(SET, sort=False).cumcount()

    def rate(self, cells, both_right=False):
        """Return the mean rate of one cell over the seeds of source and victim.

        Parameters
        ----------
        cells : pandas.DataFrame
            The cell's rows of the transfer table, one for each seed of the source and each seed of
            the victim that it was shown to.
        both_right : bool
            Count only images that the victim, too, classifies correctly when clean.

        Returns
        -------
        blindspots.evaluation.seeds.Mean
        """
        runs = []
        for cell in cells.itertuples():
            place = self._place[cell.Index]
            indices = self._of(cell, "indices")
            fooled = _bits(self._of(cell, "fooled")[place], indices)
            counted = np.ones(len(indices), bool)
            if both_right:
                right = self._of(cell, "right")
                counted = _bits(right[place % len(right)], indices)
            runs.append((indices, fooled, counted))
        return mean_of_runs(runs, cells["seed"], cells["victim_seed"])

    def rms(self, cells):
        """Return the mean RMS distortion of one source's images as found, over its seeds.

        Parameters
        ----------
        cells : pandas.DataFrame
            For each seed one row of the transfer table, of any victim.

        Returns
        -------
        blindspots.evaluation.seeds.Mean
        """
        return mean_rms(
            [
                (cell.seed, self._of(cell, "indices"), self._of(cell, "rms"))
                for cell in cells.itertuples()
            ]
        )

    def _of(self, cell, kind):
        return self._tensors[f"{cell.source}/{cell.seed}/{cell.attack}/{kind}"]


def images_in_words(seeds, few, many):
    """Return how many images a number is over: of one seed, or of each of several."""
    number = few if few == many else f"{few} to {many}"
    return f"{number} images" if seeds == 1 else f"{seeds} seeds x {number} images"


def _bits(packed, indices):
    return np.unpackbits(packed, count=len(indices)).astype(bool)
