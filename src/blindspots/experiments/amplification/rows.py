"""Rows of the table of amplification: medians over images, with their intervals."""

import numpy as np

from blindspots.evaluation.medians import median_interval
from blindspots.experiments.amplification.fields import DIFFERENCE, PERTURBATIONS


def amplification_rows(layers, moved, norms):
    """Return a row for each layer and perturbation.

    Parameters
    ----------
    layers : list of blindspots.experiments.amplification.gains.Layer
        The images first.
    moved : ndarray of float, shape (P, L, N)
        How far each perturbation moves the output of each layer at each image, in the order of
        `PERTURBATIONS`; perturbations of length 0 are left out.
    norms : ndarray of float, shape (L, M)
        Norms of the Jacobians at some of the images; NaN where they are not known.

    Returns
    -------
    list of dict
        ``layer``, ``perturbation``; ``gain``, the median of ||phi(x + r) - phi(x)|| / ||r||, and
        ``displacement``, that of ||phi(x + r) - phi(x)|| divided by the median distance of two
        images; ``sigma``, the median norm of the Jacobian; each with ``_low`` and ``_high``, a 95 %
        interval over images; ``gain_max``; ``bound`` of all gains; ``n`` and ``sigma_n`` images.
        NaN where nothing is known.
    """
    rows = []
    counted = np.isfinite(moved[:, 0]) & (moved[:, 0] > 0)  # (P, N)
    for place, layer in enumerate(layers):
        pairs = moved[PERTURBATIONS.index(DIFFERENCE), place]
        apart = _median(pairs[counted[PERTURBATIONS.index(DIFFERENCE)]])
        known = norms[place][np.isfinite(norms[place])]
        for name, distances, of_images, some in zip(
            PERTURBATIONS, moved[:, place], moved[:, 0], counted, strict=True
        ):
            gains = distances[some] / of_images[some]
            row = {"layer": layer.name, "perturbation": name, "bound": layer.bound}
            row |= {"n": len(gains), "gain_max": max(gains, default=np.nan), "sigma_n": len(known)}
            row |= _summary("gain", gains) | _summary("sigma", known)
            shares = distances[some] / apart if apart > 0 else np.full(len(gains), np.nan)
            rows.append(row | _summary("displacement", shares))
    return [{k: v if isinstance(v, str) else _number(v) for k, v in row.items()} for row in rows]


def _summary(name, values):
    low, high = median_interval(values)
    return {name: _median(values), f"{name}_low": low, f"{name}_high": high}


def _median(values):
    return np.median(values) if len(values) else np.nan


def _number(value):
    """Return a number of Python, the same whether numpy made it or not."""
    return value if isinstance(value, int) else float(value)
