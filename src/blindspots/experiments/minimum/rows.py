"""Rows of the table of smallest distortions, and their means over seeds."""

import math

import numpy as np

from blindspots.evaluation.intervals import wilson_interval
from blindspots.evaluation.seeds import mean_of_runs, mean_rms

UNTARGETED = "untargeted"


def minimum_row(found, counts, targets):
    """Return what is known of one adversarial set.

    Parameters
    ----------
    found : dict of str to ndarray
        The set: ``success``, ``rms`` (NaN where the attack failed), ``evaluations``,
        ``kkt_residual``.
    counts : dict
        What its source makes of its images once they have been stored in 8 bits: ``n_fooled`` and,
        of a targeted attack, ``target_hit``.
    targets : str
        Of the attack.

    Returns
    -------
    dict
        ``n`` images attacked; ``success`` and ``survives_8bit``, shares of them, each with its 95 %
        Wilson interval; mean RMS distortion of the successes with Student's interval over images,
        median and maximum; mean ``gradients`` and median ``kkt_residual``.
    """
    success, rms = found["success"], found["rms"][found["success"]].astype(float)
    count, fooled = len(success), int(success.sum())
    survived = counts["n_fooled" if targets == UNTARGETED else "target_hit"]
    names = ("success", "success_low", "success_high")
    row = dict(zip(names, (fooled / count, *wilson_interval(fooled, count)), strict=True))
    names = ("survives_8bit", "survives_low", "survives_high")
    row |= dict(zip(names, (survived / count, *wilson_interval(survived, count)), strict=True))
    low, high = _student(rms)
    row |= {"n": count, "rms_low": low, "rms_high": high, "rms": _of(np.mean, rms)}
    row |= {"rms_median": _of(np.median, rms), "rms_max": _of(np.max, rms)}
    row["gradients"] = float(found["evaluations"].mean())
    row["kkt_residual"] = _of(np.median, found["kkt_residual"][success].astype(float))
    return row


def over_seeds(rows, sets):
    """Return one line for the seeds of each source and attack.

    Parameters
    ----------
    rows : list of dict
        Of `minimum_row`, with ``source``, ``attack``, ``seed`` and more.
    sets : list of dict of str to ndarray
        As for `minimum_row`, with ``indices``; in the order of the rows.

    Returns
    -------
    list of dict
        As the rows. With several seeds, shares, mean distortion and gradients are means over seeds,
        and bounds are 95 % intervals over seeds and images, NaN where the seeds are too few.
    """
    lines = {}
    for row, found in zip(rows, sets, strict=True):
        lines.setdefault((row["source"], row["attack"]), []).append((row, found))
    merged = []
    for runs in lines.values():
        line = dict(runs[0][0])
        if len(runs) > 1:
            seeds = [row["seed"] for row, _ in runs]
            successes = [
                (f["indices"], f["success"].astype(float), np.ones(len(f["success"]), bool))
                for _, f in runs
            ]
            mean = mean_of_runs(successes, seeds, seeds)
            low, high = mean.rate_interval()
            line |= {"success": mean.value, "success_low": low, "success_high": high}
            mean = mean_rms([(row["seed"], f["indices"], f["rms"]) for row, f in runs])
            low, high = mean.interval()
            line |= {"rms": mean.value, "rms_low": low, "rms_high": high}
            for name in ("survives_8bit", "gradients", "rms_median", "kkt_residual"):
                line[name] = float(np.mean([row[name] for row, _ in runs]))
            line |= {"survives_low": math.nan, "survives_high": math.nan}
            line["n"] = round(np.mean([row["n"] for row, _ in runs]))
        merged.append(line | {"seeds": len(runs)})
    return merged


def _student(values):
    """Return the 95 % interval of a mean over images; NaN of fewer than two."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return math.nan, math.nan
    half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _of(statistic, values):
    return float(statistic(values)) if len(values) else math.nan
