"""What is shown of frame bounds: a table for each model, and table 5 of Szegedy et al. 2013."""

import math

import pandas as pd

from blindspots.experiments.frames.initialisation import initial_bounds

PRINTED = "Szegedy et al. 2013, table 5: AlexNet"
NOTES = (
    "Lower and upper are the least and the largest singular value of a layer, as a linear map of "
    "all its inputs; power is what the power method reaches, so that the norm lies between power "
    "and upper. Of m outputs and n inputs, the least of the min(m, n) values counts: for a tall or "
    "square layer it is the least stretch of any input; for a wide one it is that of the adjoint, "
    "and the layer itself maps a whole subspace to 0. Exact: of the layer as it is. Estimate: of "
    "the circular convolution, which may lie above or below that with zero padding. Product: what "
    "no two images' distance grows by, up to here, with every activation and pooling; branches add "
    "(residuals) or add in squares (concatenation). At random: where the bounds of torch's own "
    "initialisation would lie (Marchenko and Pastur)."
)
PRINTED_NOTES = (
    "As printed, beside the bounds of random weights of the same sizes in closed form. The printed "
    "lower bounds of wide layers (Conv. 5, FC. 1, FC. 3) are of the adjoint: those layers lose "
    "whole subspaces. The smallest of them belong to the square layers, where random weights have "
    "them too; for Conv. 4 the closed form is 0, a limit that each draw misses. Two formulas of "
    "the paper are corrected here: aliased frequencies lie 2 pi / D apart for a stride of D, and "
    "the norm is divided by D, without which Conv. 1 comes out 4 times too large; whether the "
    "printed 20 contains this factor is not known. Max-pooling is not contractive where windows "
    "overlap: each of the three 3x3 pools of stride 2 has the constant 2, a factor of 8 that the "
    "product here contains."
)
# Of the network printed, what its table does not say: strides, and pools that windows overlap in.
STRIDES, POOLS = {"Conv. 1": 4}, {"Conv. 1": 2, "Conv. 2": 2, "Conv. 5": 2}


def frame_tables(table, printed):
    """Return what is shown of the bounds of some models.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `blindspots.experiments.frames.bounds.frame_bounds`, with ``model`` and ``seed``.
    printed : pandas.DataFrame
        Table 5: ``layer``, ``size``, ``lower_bound``, ``upper_bound``.

    Returns
    -------
    list of (str, str, pandas.DataFrame)
        Heading, notes and table, as `blindspots.summary.page.page` takes them: each cell is a list
        of texts. Numbers are medians over seeds, with the least and the largest beside them.
    """
    notes, sections = _notes(table), []
    for model, rows in table.groupby("model", sort=False):
        sections.append((str(model), notes, pd.DataFrame(_of_model(rows))))
        notes = ""  # they are the same for all
    return [*sections, (PRINTED, PRINTED_NOTES, pd.DataFrame(_of_print(printed)))]


def _notes(table):
    seeds = table["seed"].unique()
    over = f"Medians over seeds {', '.join(map(str, seeds))}, least and largest in brackets. "
    return (over if len(seeds) > 1 else "") + NOTES


def _of_model(rows):
    for layer, runs in rows.groupby("layer", sort=False):
        first = runs.iloc[0]
        how = "" if pd.isna(first["lower"]) else f"{first['bound']}, {first['method']}"
        stride = _text(first["stride"])
        detail = [f"stride {stride}"] if stride not in ("", "1") else []
        detail += [f"{first['groups']:g} groups"] if _number(first["groups"]) > 1 else []
        yield {
            "layer": [layer],
            "size": [_text(first["size"]), *detail],
            "shape": [_text(first["shape"])],
            "lower": [*_median(runs["lower"]), *filter(None, [how])],
            "power": _median(runs["power"]),
            "upper": _median(runs["upper"]),
            "product of uppers": _median(runs["product"])
            if runs["product"].notna().all()
            else ["not known"],
            "at random": [_between(first["init_lower"], first["init_upper"])],
        }


def _of_print(printed):
    product = 1.0
    for _, row in printed.iterrows():
        inputs, *taps, outputs = map(int, row["size"].split("x"))
        stride = STRIDES.get(row["layer"], 1)
        product *= row["upper_bound"] * POOLS.get(row["layer"], 1)
        given = inputs * stride**2
        shape = "square" if outputs == given else ("tall" if outputs > given else "wide")
        lower, upper = initial_bounds((outputs, inputs, *taps), (stride, stride))
        yield {
            "layer": [row["layer"]],
            "size": [row["size"], *([f"stride {stride}"] if stride > 1 else [])],
            "shape": [shape],
            "lower, print": [f"{row['lower_bound']:.3g}"],
            "upper, print": [f"{row['upper_bound']:.3g}"],
            "product of uppers": [f"{product:.3g}"],
            "lower at random": [f"{lower:.3g}"],
            "upper at random": [f"{upper:.3g}"],
        }


def _median(values):
    if values.isna().any():
        return [""]
    texts = [f"{values.median():.4g}"]
    if len(values) > 1:
        texts.append(f"[{values.min():.4g}, {values.max():.4g}]")
    return texts


def _between(low, high):
    return "" if pd.isna(low) else f"{low:.3g} to {high:.3g}"


def _text(value):
    """Return a value as text; a table that was read from a file has numbers where it can."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value):
    return math.nan if isinstance(value, str) or pd.isna(value) else float(value)
