"""What is shown of smallest distortions, beside print."""

import math

import pandas as pd

from blindspots.summary.numbers import digits, distortion

PRINT = "Szegedy et al. 2013, figure 5"
NOTES = (
    "Attacked are images that the source classifies correctly; success and survival are shares of "
    "all of them, with 95 % intervals. RMS: the mean distortion of the successes, in units of the "
    "pixel range, and its median. 8 bits: the images that still fool their source (of a targeted "
    "attack, that still have the target) once every pixel is rounded to the nearest of 256 levels. "
    "Where the originals lie on these levels, as photographs do, changes below half a level, "
    "0.002, are undone. As float32 all successes fool their source. KKT: the median distance "
    "from the first-order conditions of a smallest distortion, relative to it; piecewise linear "
    "networks, whose minima lie at kinks, have values near 1."
)
COMPARED = (
    "Print gives one number for AlexNet, without saying which wrong answers were aimed at, how c "
    "was searched, or how far the search was carried. What can be compared: that every image can "
    "be fooled, and the order of magnitude. What cannot: whether one network is more fragile than "
    "another, for a smaller number may be that of a better search, or of any target in place of a "
    "random one."
)


def minimum_tables(lines, spec, printed):
    """Return what is shown of smallest distortions.

    Parameters
    ----------
    lines : list of dict
        Of `blindspots.experiments.minimum.rows.over_seeds`.
    spec : dict
        ``labels`` of the sources, ``dataset``, and ``about``, each with the ``pool``.
    printed : float
        The distortion that print gives.

    Returns
    -------
    list of (str, str, pandas.DataFrame)
        Heading, notes and table, as `blindspots.summary.page.page` takes them.
    """
    shown = [_line(line, spec["labels"]) for line in lines]
    empty = {column: [""] for column in shown[0]}
    shown.append(empty | {"source": [f"AlexNet, {PRINT}"], "attacked": ["64"]} | _rms(printed))
    pools = dict.fromkeys(about["pool"] for about in spec["about"])
    heading = f"Smallest distortions: {spec['dataset']}, images of {', '.join(pools)}"
    return [(heading, f"{NOTES} {COMPARED}", pd.DataFrame(shown))]


def _line(line, labels):
    attacked = [str(line["n"])]
    attacked += [f"{line['seeds']} seeds"] if line["seeds"] > 1 else []
    return {
        "source": [labels[line["source"]]],
        "targets": [line["targets"].replace("_", "-")],
        "attacked": [*attacked, f"{line['left_out']} wrong when clean"],
        "success": _share(line["success"], line["success_low"], line["success_high"]),
        **_rms(line["rms"], line["rms_low"], line["rms_high"]),
        "median": [_size(line["rms_median"])],
        "8 bits": _share(line["survives_8bit"], line["survives_low"], line["survives_high"]),
        "gradients": [digits(line["gradients"], 3)],
        "KKT": [digits(line["kkt_residual"], 2)],
    }


def _rms(value, low=math.nan, high=math.nan):
    bounds = [] if math.isnan(low) else [f"[{_size(low)}, {_size(high)}]"]
    return {"RMS": [_size(value), *bounds]}


def _size(value):
    return "" if math.isnan(value) else distortion(value, 4)


def _share(value, low, high):
    bounds = [] if math.isnan(low) else [f"[{100 * low:.1f}, {100 * high:.1f}]"]
    return [f"{100 * value:.1f} %", *bounds]
