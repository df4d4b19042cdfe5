"""The figures of amplification: what each layer makes of each perturbation, by depth."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blindspots.experiments.amplification.fields import PERTURBATIONS, UNTRAINED
from blindspots.experiments.amplification.tables import label_of, over_seeds
from blindspots.summary.style import colours_and_markers

GAIN, DISPLACEMENT = "gain", "displacement"
YLABELS = {
    GAIN: "gain  ‖δφ‖ / ‖r‖",
    DISPLACEMENT: "relative displacement of φ",
}
WORDS = {
    "adversarial": "adversarial",
    "shuffled": "shuffled: another image's",
    "gaussian": "Gaussian noise as long",
    "difference": "difference of two images",
}
BOUND = {"color": "0.55", "linestyle": ":", "linewidth": 1.2}
SIGMA = {"color": "black", "linestyle": "--", "linewidth": 1.0}
ROOM = 30  # times the largest gain or norm: the axis ends there, and bounds may leave it
PER_LAYER, HEIGHT = 0.17, 2.5  # inches
FEWEST = 18  # layers that a panel has room for


def depth_figure(table, labels, title, what):
    """Plot what the layers of networks do to perturbations, one panel for each network.

    Untrained networks stand to the right of the same networks trained.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns as in `blindspots.experiments.amplification.fields.FIELDS`.
    labels : dict of str to str
        Of the networks.
    title : str
    what : str
        ``gain``, with the norms of the Jacobians and the bounds, or ``displacement``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    lines = over_seeds(table)
    networks = {name: rows for name, rows in lines.groupby("network", sort=False)}
    trained = [name for name in networks if not name.endswith(UNTRAINED)]
    depth = max(rows["layer"].nunique() for rows in networks.values())
    size = (2 * (PER_LAYER * max(depth, FEWEST) + 0.7), HEIGHT * len(trained) + 0.9)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(len(trained), 2, squeeze=False, sharey="row")
    looks = colours_and_markers(PERTURBATIONS)
    for row, name in zip(axes, trained, strict=True):
        for ax, network in zip(row, (name, name + UNTRAINED), strict=True):
            _draw(ax, networks[network], looks, what)
            ax.set_title(textwrap.fill(label_of(network, labels), 40))
        both = lines[lines["network"].isin((name, name + UNTRAINED))]
        row[0].set_ylabel(YLABELS[what])
        if what == GAIN:
            numbers = both[["gain", "sigma"]].to_numpy(float)
            seen = numbers[np.isfinite(numbers) & (numbers > 0)]
            row[0].set_ylim(seen.min() / 2, ROOM * seen.max())
    handles = {
        WORDS[name]: Line2D([], [], color=colour, marker=marker, markersize=3.5)
        for name, (colour, marker) in looks.items()
    }
    if what == GAIN:
        handles |= {
            "norm of the Jacobian": Line2D([], [], **SIGMA),
            "bound, multiplied along the pass": Line2D([], [], **BOUND),
        }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(textwrap.fill(title, 80))
    return figure


def _draw(ax, rows, looks, what):
    layers = list(dict.fromkeys(rows["layer"]))
    for name, of in rows.groupby("perturbation", sort=False):
        colour, marker = looks[name]
        places = [layers.index(layer) for layer in of["layer"]]
        ax.plot(places, of[what], color=colour, marker=marker, markersize=3.0, linewidth=1.0)
        low, high = of[f"{what}_low"], of[f"{what}_high"]
        ax.fill_between(places, low, high, color=colour, alpha=0.25, lw=0)
    if what == GAIN:
        first = rows.drop_duplicates("layer")
        ax.plot(range(len(layers)), first["sigma"], **SIGMA)
        ax.plot(range(len(layers)), first["bound"], **BOUND)
    ax.set(yscale="log", xlim=(-0.5, len(layers) - 0.5))
    ax.tick_params(labelleft=True)
    ax.yaxis.set_major_formatter("{x:g}")  # without mathematics, which the style leaves out
    ax.set_xticks(range(len(layers)), layers, rotation=90)
