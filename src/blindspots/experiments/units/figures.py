"""The figure of units: every direction of every family, and the tests of all layers."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blindspots.experiments.units.fields import STATISTICS

SHOWN = {
    "purity": "purity",
    "ref": "distance in reference / random",
    "cosine": "the same, features of length 1",
}
TESTED = {"purity": "o", "ref": "s", "cosine": "D"}  # of which z is shown, by marker
STRIPS = (  # family, and what its natural and its random directions are called
    ("units", "units", "random directions"),
    ("whitened", "whitened units", "whitened, random"),
    ("logits", "logits", "logits, random"),
    ("pixels", "single pixels", "pixels, random"),
    ("untrained", "untrained units", "untrained, random"),
)
DRAWN = 200  # dots of a strip: of more these
STRIP, ROW, HEAD = 0.2, 0.17, 1.5  # inches of a strip and a layer, and of what surrounds a network
TITLE = 90  # characters of a line


def unit_figure(networks, title):
    """Plot how coherent the top images of every direction are, and how far units lie from bases.

    A row of panels for each network: for three statistics a strip for each family, of the last
    hidden layer, with a line at what random images give; then z of the units of every layer.

    Parameters
    ----------
    networks : dict of str to list of (list of dict, dict of str to ndarray)
        By its name, for each seed of a network the rows and arrays of
        `blindspots.experiments.units.measure.Units`.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    layers = {name: _layers(runs[0][0]) for name, runs in networks.items()}
    heights = [
        max(2 * len(STRIPS) * STRIP, (len(found) + 2) * ROW) + 0.5 for found in layers.values()
    ]
    figure = Figure((11.5, sum(heights) + HEAD), layout="constrained")
    axes = figure.subplots(
        len(networks),
        len(SHOWN) + 1,
        squeeze=False,
        gridspec_kw={"height_ratios": heights, "width_ratios": (3, 3, 3, 3)},
    )
    colours = _colours()
    for line, (name, runs) in zip(axes, networks.items(), strict=True):
        for ax, statistic in zip(line, SHOWN, strict=False):
            _strips(ax, runs, layers[name][-1], statistic, colours)
            ax.set_xlabel(SHOWN[statistic])
            if ax is not line[0]:
                ax.set_yticklabels([])
        line[0].set_title(f"{name}, {layers[name][-1]}", loc="left")
        _tests(line[-1], runs, layers[name], colours)
    figure.suptitle(textwrap.fill(title, TITLE))
    figure.legend(
        *_legend(colours), loc="outside lower center", ncols=4, columnspacing=1.2, handletextpad=0.4
    )
    return figure


def _layers(rows):
    """Return the hidden layers of a network, in order."""
    return list(dict.fromkeys(row["layer"] for row in rows if row["family"] == "units"))


def _strips(ax, runs, layer, statistic, colours):
    """Draw a dot for each direction of each family, and the mean of each seed as a bar."""
    position, number = STATISTICS.index(statistic), 0
    labels = []
    random = np.random.default_rng(0)
    for family, *names in STRIPS:
        for kind, name in zip(("natural", "random"), names, strict=True):
            place = {"logits": "logits", "pixels": "input"}.get(family, layer)
            found = [arrays.get(f"{family}/{place}/{kind}") for _, arrays in runs]
            values = [array[position] for array in found if array is not None]
            labels.append(name)
            if values:
                dots = np.concatenate(values)
                dots = dots[random.permutation(len(dots))[:DRAWN]]
                height = number + random.uniform(-0.28, 0.28, len(dots))
                ax.plot(dots, height, ".", color=colours[kind], markersize=3, alpha=0.5, mew=0)
                means = [array.mean() for array in values]
                ax.plot(means, [number] * len(means), "|", color="black", markersize=11, mew=1.3)
            number += 1
    for boundary in range(2, number, 2):
        ax.axhline(boundary - 0.5, color="0.85", linewidth=0.6)
    chance = [
        row["value"]
        for rows, _ in runs
        for row in rows
        if (row["family"], row["statistic"]) == ("chance", statistic)
    ]
    ax.axvline(np.mean(chance), color=colours["chance"], linestyle="--", linewidth=1.1)
    ax.set(ylim=(number - 0.5, -0.5))
    ax.set_yticks(range(number), labels)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _tests(ax, runs, layers, colours):
    """Draw z of every layer and seed, trained and untrained; grey: what chance gives."""
    places = [*layers, "logits"]
    ax.axvspan(-2, 2, color="0.9", linewidth=0, zorder=0)
    ax.axvline(0, color="0.6", linewidth=0.8)
    for rows, _ in runs:
        for row in rows:
            family, statistic, z = row["family"], row["statistic"], row.get("z")
            if (
                statistic not in TESTED
                or z is None
                or family not in ("units", "logits", "untrained")
            ):
                continue
            trained = family != "untrained"
            ax.plot(
                z,
                places.index(row["layer"]) + (-0.16 if trained else 0.16),
                TESTED[statistic],
                color=colours["natural" if trained else "untrained"],
                markerfacecolor=colours["natural"] if trained else "white",
                markersize=3.5,
                mew=0.8,
            )
    ax.set(ylim=(len(places) - 0.5, -0.5), xlabel="z of units among random bases")
    ax.set_yticks(range(len(places)), places)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _colours():
    import seaborn as sns

    blue, orange, green, vermilion, *_ = sns.color_palette("colorblind")
    return {"natural": blue, "random": orange, "untrained": green, "chance": vermilion}


def _legend(colours):
    dot = {"marker": ".", "linestyle": "none", "markersize": 7}
    found = {
        "a direction of the natural basis": dot | {"color": colours["natural"]},
        "a random direction": dot | {"color": colours["random"]},
        "mean of a seed": {"marker": "|", "color": "black", "linestyle": "none", "markersize": 9},
        "random images": {"color": colours["chance"], "linestyle": "--"},
    }
    small = {"linestyle": "none", "markersize": 4, "color": "0.3"}
    found |= {f"z of {name}": small | {"marker": marker} for name, marker in TESTED.items()}
    found["z, untrained"] = small | {
        "marker": "o",
        "color": colours["untrained"],
        "markerfacecolor": "white",
    }
    return [Line2D([], [], **look) for look in found.values()], list(found)
