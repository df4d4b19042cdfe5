"""What is shown of amplification: a table for each network, over seeds."""

import numpy as np
import pandas as pd

from blindspots.evaluation.seeds import FEWEST, mean_over_seeds
from blindspots.experiments.amplification.fields import (
    ADVERSARIAL,
    DIFFERENCE,
    GAUSSIAN,
    SHUFFLED,
    UNTRAINED,
)

NOTES = (
    "Gain: by how much a layer's output moves for a perturbation, divided by the length of the "
    "perturbation. Adversarial: that which fools the network at this image; of an untrained "
    "network, that which changes its own answer; there is none where it gives all images the same. "
    "Shuffled: the one of another image. Gaussian: "
    "noise that is as long as the adversarial one. Difference: of two images of the data set. "
    "Nothing is clipped to [0, 1]. Sigma: the norm of the Jacobian, which the worst infinitesimal "
    "perturbation of the image is stretched by, as far as it is found; against "
    "Gaussian noise it says how much of an adversarial gain any direction chosen for the layer "
    "would have. Bound: what no difference of two images is stretched by (frame bounds, "
    "multiplied along the pass). Displacement: by how much the output moves, divided by the median "
    "distance of two images' outputs: weights of another scale leave it as it is."
)


def over_seeds(table):
    """Return one line for each network, layer, perturbation: means of the seeds' medians.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in `blindspots.experiments.amplification.fields.FIELDS`.

    Returns
    -------
    pandas.DataFrame
        ``gain``, ``displacement`` and ``sigma``, each with ``_low`` and ``_high``: of one seed, its
        95 % interval over images; of three or more, Student's t over seeds; of two, NaN.
        ``bound``: the mean; ``n``: the fewest images of a seed; ``gain_max``: over seeds.
    """
    lines = []
    keys = ["network", "layer", "perturbation"]
    for names, runs in table.groupby(keys, sort=False):
        line = dict(zip(keys, names, strict=True))
        line |= {"bound": runs["bound"].mean(skipna=False), "n": runs["n"].min()}
        line |= {"sigma_n": runs["sigma_n"].min(), "gain_max": runs["gain_max"].max()}
        for name in ("gain", "displacement", "sigma"):
            values = runs[name].to_numpy(float)
            line[name] = values.mean()
            if len(runs) == 1:
                low, high = runs[f"{name}_low"].iloc[0], runs[f"{name}_high"].iloc[0]
            else:
                # The median over images is the one number of a seed.
                seeds, known = runs["seed"].to_numpy(), np.isfinite(values)[:, None]
                low, high = mean_over_seeds(values[:, None], known, seeds, seeds).interval()
            line |= {f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def amplification_tables(table, spec):
    """Return what is shown of the amplification in some networks.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in `blindspots.experiments.amplification.fields.FIELDS`.
    spec : dict
        ``labels`` of the networks, ``seeds``, ``dataset``, ``pool``, ``targets``.

    Returns
    -------
    list of (str, str, pandas.DataFrame)
        Heading, notes and table, as `blindspots.summary.page.page` takes them.
    """
    lines, sections = over_seeds(table), []
    notes = f"{_setting(spec)} {NOTES}"
    for network, rows in lines.groupby("network", sort=False):
        shown = [_line(layer, of) for layer, of in rows.groupby("layer", sort=False)]
        heading = f"{label_of(network, spec['labels'])}, {_images(rows)}"
        sections.append((heading, notes, pd.DataFrame(shown)))
        notes = ""  # they are the same for all
    return sections


def label_of(network, labels):
    """Return what readers call a network."""
    name = network.removesuffix(UNTRAINED)
    return labels[name] + network[len(name) :]


def _setting(spec):
    targets = spec["targets"].replace("_", "-")
    said = f"{spec['dataset']}, images of {spec['pool']}; targets of the attack: {targets}."
    count = len(spec["seeds"])
    if count == 1:
        return f"{said} Medians over images, with 95 % intervals over them."
    over = f"{said} Means over {count} seeds of the medians over images"
    return f"{over}, with 95 % intervals over seeds." if count >= FEWEST else f"{over}."


def _images(rows):
    return f"{rows['n'].max()} images, {rows['sigma_n'].max()} of them for sigma"


def _line(layer, rows):
    by = rows.set_index("perturbation")
    gains, sigma = by["gain"], by.iloc[0]["sigma"]
    return {
        "layer": [layer],
        **{name: _cell(by.loc[name], "gain") for name in by.index},
        "adversarial / Gaussian": _ratio(gains[ADVERSARIAL], gains[GAUSSIAN]),
        "shuffled / Gaussian": _ratio(gains[SHUFFLED], gains[GAUSSIAN]),
        "sigma": _cell(by.iloc[0], "sigma"),
        "sigma / Gaussian": _ratio(sigma, gains[GAUSSIAN]),
        "largest gain": _number(by["gain_max"].max()),
        "bound": _number(by["bound"].iloc[0]) if by["bound"].notna().all() else ["not known"],
        "displacement, adversarial": _cell(by.loc[ADVERSARIAL], "displacement"),
        "displacement, Gaussian": _cell(by.loc[GAUSSIAN], "displacement"),
        "displacement, difference": _cell(by.loc[DIFFERENCE], "displacement"),
    }


def _cell(row, name):
    texts = _number(row[name])
    if np.isfinite(row[f"{name}_low"]) and row[f"{name}_low"] < row[f"{name}_high"]:
        texts.append(f"[{row[f'{name}_low']:.3g}, {row[f'{name}_high']:.3g}]")
    return texts


def _number(value):
    return [f"{value:.3g}" if np.isfinite(value) else ""]


def _ratio(one, other):
    return _number(one / other if other > 0 else np.nan)
