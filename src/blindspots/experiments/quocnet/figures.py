"""The figure of detectors: how good each is, and how little deceives it."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from blindspots.summary.fitting import fitted
from blindspots.summary.style import colours_and_markers

ROW, REST = 0.3, 1.3  # inches of a detector, and of what surrounds them
NAME = 130  # points of the name of a detector


def detector_figure(table, title):
    """Plot balanced accuracy, area under the ROC curve and RMS distortions of detectors.

    Parameters
    ----------
    table : pandas.DataFrame
        As `blindspots.experiments.quocnet.tables.detector_rows` returns it.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    ways = list(dict.fromkeys(table["direction"]))
    once = table.drop_duplicates("model")
    places = dict(zip(once["model"], range(len(once)), strict=True))
    figure = Figure((7.5, ROW * len(once) + REST), layout="constrained")
    accuracy, rms = figure.subplots(1, 2, sharey=True)
    marks = colours_and_markers(["balanced_accuracy", "auc", *ways])
    for number, (column, name) in enumerate(
        (("balanced_accuracy", "balanced accuracy"), ("auc", "area under ROC curve"))
    ):
        _points(accuracy, once, column, places, (number - 0.5) * 0.2, marks[column], name)
    for number, way in enumerate(ways):
        rows = table[table["direction"] == way]
        _points(rms, rows, "rms", places, (number - 0.5) * 0.2, marks[way], way.replace("->", "→"))
    accuracy.set_yticks(range(len(once)), [fitted(text, NAME, 8, 2) for text in once["label"]])
    accuracy.axvline(0.5, color="0.4", linestyle=":", linewidth=1)
    accuracy.set(xlabel="rate on images not seen (0.5: chance)", xlim=(0.45, 1.01))
    accuracy.set_ylim(len(once) - 0.5, -0.5)
    rms.set(xlabel="mean RMS of the smallest distortions that deceive")
    if table["rms"].notna().any():
        rms.set_xscale("log")
        rms.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        rms.xaxis.set_minor_locator(NullLocator())
        rms.xaxis.set_major_formatter("{x:g}")
    for ax in (accuracy, rms):
        ax.tick_params(axis="x", labelsize=7)
    handles = [*accuracy.get_legend_handles_labels()[0], *rms.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7)
    figure.suptitle(textwrap.fill(f"{title}: {table['data'].iloc[0]}", 90))
    return figure


def _points(ax, rows, column, places, shift, mark, name):
    """Draw a point for each row, with its interval."""
    values = rows[column].to_numpy(float)
    below, above = (
        np.nan_to_num(np.abs(rows[f"{column}_{end}"].to_numpy(float) - values))
        for end in ("low", "high")
    )
    colour, marker = mark
    heights = rows["model"].map(places) + shift
    ax.errorbar(
        values,
        heights,
        xerr=[below, above],
        color=colour,
        marker=marker,
        markersize=4,
        linestyle="none",
        label=name,
    )
