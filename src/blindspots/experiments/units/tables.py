"""What is shown of units: a table for each network."""

import numpy as np
import pandas as pd

from blindspots.evaluation.seeds import mean_over_seeds
from blindspots.experiments.units.fields import STATISTICS, TAIL, TOP

HEADINGS = {
    "purity": "purity",
    "entropy": "entropy, bits",
    "ref": "distance in reference",
    "cosine": "the same, of length 1",
    "pix": "distance in pixels",
    "beyond": "beyond class",
}
NAMES = {
    "units": "units",
    "random": "one random basis more",
    "whitened": "whitened units",
    "pca": "principal axes, both signs",
    "logits": "logits",
    "pixels": "single pixels",
    "untrained": "units of the untrained network",
    "chance": "random images",
}
BEST = {"units"}  # families whose most coherent tenth is shown, too
NOTES = (
    f"Of each direction the {TOP} images that it responds to most: the share of the commonest "
    "label (purity), the entropy of the labels, the mean distance of two of the images in the "
    "last hidden layer of another network (reference), in the same features scaled to length 1, "
    "and in pixels, each divided by that of random images, and the last divided by that of random "
    "images of the same labels (beyond class: below 1 they are alike beyond their label). Means "
    "over the directions of a basis; small: mean and standard deviation of the same over random "
    "bases of the same features, how many standard deviations lie between (z), and the exact "
    "two-sided p of the natural basis being one of them. Of principal axes the random ones are as "
    "many orthonormal directions, in both senses. Whitened units, logits, single pixels and "
    "untrained units have their own random bases: of whitened features, of logits, of pixels, of "
    "the untrained network. Best tenth: the value than which a tenth of the directions is more "
    "coherent, which shows a few special units where the mean does not. Dead units are left out."
)


def unit_tables(table):
    """Return what is shown of the units of some networks.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns of `blindspots.experiments.units.fields.FIELDS`.

    Returns
    -------
    list of (str, str, pandas.DataFrame)
        Heading, notes and table of each network; each cell is a list of texts.
    """
    notes, sections = _notes(table), []
    for network, rows in table.groupby("network", sort=False):
        sections.append((str(network), notes, pd.DataFrame(_of_network(rows))))
        notes = ""  # they are the same for all
    return sections


def _notes(table):
    seeds = sorted(table["seed"].unique())
    if len(seeds) == 1:
        return NOTES
    over = f"Means over seeds {', '.join(map(str, seeds))}, of z the least and the largest"
    return f"{over}; of the difference from the random bases the 95 % interval over seeds. {NOTES}"


def _of_network(rows):
    for (layer, family), those in rows.groupby(["layer", "family"], sort=False):
        endings = {"": NAMES[family]}
        if family in BEST:
            endings[TAIL] = f"{NAMES[family]}, best tenth"
        for ending, name in endings.items():
            yield {
                "layer": [layer],
                "directions": [name, *_counts(those)],
                **{
                    HEADINGS[statistic]: _cell(those[those["statistic"] == statistic + ending])
                    for statistic in STATISTICS
                },
            }


def _counts(rows):
    """Return how many directions there are, and how many units are dead."""
    found = []
    for column, text in (("directions", "{}"), ("dead", "{} dead")):
        low, high = rows[column].min(), rows[column].max()
        if pd.notna(high) and (high or column == "directions"):
            found.append(text.format(f"{low:g}" if low == high else f"{low:g} to {high:g}"))
    return [", ".join(found)] if found else []


def _cell(runs):
    """Return what is shown of one statistic of one family."""
    known = runs[runs["value"].notna()]
    if known.empty:
        return [""]
    texts = [f"{known['value'].mean():.3f}"]
    if known["null_mean"].isna().all():
        return texts
    texts.append(f"bases {known['null_mean'].mean():.3f} ± {known['null_sd'].mean():.3f}")
    if len(known) > 1:
        texts.append(_difference(known))
        low, high = (known["p"] <= 0.05).sum(), len(known)
        return [*texts, f"z {_range(known['z'])}", f"p ≤ .05: {low} of {high}"]
    z, p = known[["z", "p"]].iloc[0]
    return [*texts, f"z {z:+.1f}, p {p:.3g}" if pd.notna(z) else f"p {p:.3g}"]


def _difference(runs):
    """Return the mean distance from the random bases, and its interval over seeds."""
    values = (runs["value"] - runs["null_mean"]).to_numpy()[:, None]
    seeds = runs["seed"].tolist()
    mean = mean_over_seeds(values, np.ones_like(values, bool), seeds, seeds)
    low, high = mean.interval()
    return f"{mean.value:+.3f}" + ("" if np.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")


def _range(values):
    values = values.dropna()
    return f"{values.min():+.1f} to {values.max():+.1f}" if len(values) else "not known"
