"""The figure of frame bounds: every layer of every model, and what the bounds amount to."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

ROW, PANEL = 0.17, 0.62  # inches of a layer, and of what surrounds a panel
TITLE = 70  # characters of a line


def frame_figure(table, title):
    """Plot lower bound, power method and upper bound of each layer, and the product of the uppers.

    One panel for each model, one line for each layer. With several seeds all are drawn; the line
    joins the medians.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `blindspots.experiments.frames.bounds.frame_bounds`, with ``model`` and ``seed``.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    models = {model: rows for model, rows in table.groupby("model", sort=False)}
    counts = [rows["layer"].nunique() for rows in models.values()]
    height = ROW * sum(counts) + PANEL * len(models) + 1.0
    longest = max(map(len, _labels(table).values()))
    figure = Figure((5.0 + 0.06 * longest, height), layout="constrained")
    axes = figure.subplots(
        len(models),
        2,
        squeeze=False,
        sharex="col",
        gridspec_kw={"height_ratios": counts, "width_ratios": (3, 2)},
    )
    marks = _marks()
    edge = _edge(table)
    for (bounds, product), (model, rows) in zip(axes, models.items(), strict=True):
        labels = _labels(rows)
        places = rows["layer"].map({layer: place for place, layer in enumerate(labels)})
        _draw_bounds(bounds, rows, places, marks, edge)
        middle = rows.groupby("layer", sort=False)["product"].median()
        product.plot(rows["product"], places, **marks["product of uppers"] | {"linestyle": "none"})
        product.plot(middle, range(len(middle)), color=marks["product of uppers"]["color"])
        for ax in (bounds, product):
            ax.set(xscale="log", ylim=(len(labels) - 0.5, -0.5))
            ax.set_yticks(
                range(len(labels)), labels.values() if ax is bounds else [""] * len(labels)
            )
            ax.tick_params(axis="y", length=0)
            ax.tick_params(labelbottom=True)
            ax.xaxis.set_major_locator(LogLocator(numticks=5 if ax is bounds else 4))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")  # without mathematics, which the style leaves out
        bounds.set_title(textwrap.fill(str(model), TITLE), loc="left")
    axes[0, 0].set_xlim(left=edge)
    axes[-1, 0].set_xlabel("singular values")
    axes[-1, 1].set_xlabel("product of upper bounds")
    figure.suptitle(textwrap.fill(title, TITLE))
    handles = [Line2D([], [], **mark) for mark in marks.values()]
    figure.legend(handles, marks.keys(), loc="outside lower center", ncols=3)
    return figure


def _draw_bounds(ax, rows, places, marks, edge):
    of_layers = rows.groupby(places)
    ax.hlines(
        of_layers.first().index,
        of_layers["lower"].median().clip(lower=edge),
        of_layers["upper"].median(),
        color="0.75",
        linewidth=1.2,
        zorder=1,
    )
    for column in ("init_lower", "init_upper"):
        ax.plot(rows[column].where(rows[column] > 0), places, **marks["at random, in theory"])
    estimate, none = rows["bound"] == "estimate", rows["lower"] == 0
    for name, chosen in (("lower", ~estimate), ("lower, estimate", estimate)):
        ax.plot(rows["lower"].where(chosen & ~none), places, **marks[name])
    if none.any():  # an empty line without clipping would reach below the figure
        ax.plot(np.full(none.sum(), edge), places[none], clip_on=False, **marks["lower is 0"])
    ax.plot(rows["upper"], places, **marks["upper"])
    ax.plot(rows["power"], places, **marks["power method"])


def _edge(table):
    """Return where the axis begins: a decade that all numbers above 0 lie right of."""
    numbers = table[["lower", "upper", "init_lower"]].to_numpy(float)
    return 10.0 ** np.floor(np.log10(0.7 * numbers[numbers > 0].min()))


def _labels(rows):
    """Return the name and size of each layer, by its name."""
    sizes = rows.drop_duplicates("layer").set_index("layer")["size"]
    return {
        layer: layer if pd.isna(size) or not size else f"{layer}   {size}"
        for layer, size in sizes.items()
    }


def _marks():
    import seaborn as sns

    blue, orange, green, *_ = sns.color_palette("colorblind")
    point = {"linestyle": "none", "markersize": 4.5}
    hollow = {"markerfacecolor": "white", "markeredgewidth": 0.9}
    return {
        "lower": {"color": blue, "marker": "o", **point},
        "lower, estimate": {"color": blue, "marker": "o", **point, **hollow},
        "lower is 0": {"color": blue, "marker": "<", **point},
        "upper": {"color": orange, "marker": "D", **point, "markersize": 4},
        "power method": {"color": "black", "marker": "|", **point, "markersize": 7},
        "at random, in theory": {"color": "0.45", "marker": "x", **point, "markersize": 3.5},
        "product of uppers": {"color": green, "marker": "s", "markersize": 3, "linewidth": 1.2},
    }
