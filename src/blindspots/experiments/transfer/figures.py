"""The published figures, made from the tidy transfer table and from distortions.

Every function returns a `matplotlib.figure.Figure`; nothing is shown or saved. Rates are drawn in
per cent. With several seeds, rates are means over seeds and bounds are 95 % intervals over seeds
and images (`blindspots.evaluation.seeds`), or missing where the seeds are too few; with one seed,
bounds are the 95 % Wilson interval over images.
"""

import math
import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from blindspots.evaluation.seeds import FEWEST, mean_rms
from blindspots.experiments.transfer.answers import images_in_words
from blindspots.experiments.transfer.victim_seeds import chosen
from blindspots.summary.fitting import fitted, text_width
from blindspots.summary.numbers import distortion
from blindspots.summary.style import RATE_COLOURS, SETTINGS, colours_and_markers

MOST_NUMBERS = 2500  # written into one panel: more take minutes, and nobody reads them
# Inches that the panels of a figure take together; where there are more, all are made smaller.
WIDEST, HIGHEST = 12.0, 15.0
NUMBER, LABEL, LEAST = 7, 8, 4  # points of numbers and labels, and of what can still be read
TITLE = SETTINGS["figure.titlesize"]


def transfer_heat_maps(cells, spec, title, answers=None):
    """Plot the victim error of every pair of source and victim.

    One panel shows the perturbations as found, one more each level that they are amplified to. With
    several seeds, half the width of its interval stands below each rate.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.experiments.transfer.fields.FIELDS`.
    spec : dict
        What is shown: ``attack``, ``sources``, ``victims``, ``victim_seeds``, ``labels``,
        ``amplify``, ``seeds``.
    title : str
    answers : blindspots.experiments.transfer.answers.Answers, optional
        The answers to single images; not needed with one seed.
    """
    import seaborn as sns

    shown = _over_seeds(_adversarial(cells, spec), answers)
    spread = len(spec["seeds"]) >= FEWEST
    panels = [("as found\n" + _range_of_rms(shown), shown[shown["variant"] == "as_found"])]
    amplified = shown[shown["variant"] == "amplified"]
    panels += [(f"amplified to\nRMS {level:g}", part) for level, part in amplified.groupby("rms")]

    width = max(1.3, 0.43 * len(spec["victims"]) + 0.3)
    height = max(1.3, (0.42 if spread else 0.33) * len(spec["sources"]) + 0.6)
    usual = math.ceil(len(panels) / math.ceil(len(panels) / 4))
    rows, columns, share = _arranged(len(panels), usual, width, height)
    width, height, number = share * width, share * height, share * NUMBER
    margin = 0.06 * max(len(label) for label in spec["labels"].values())
    size = (columns * width + margin + 1.3, rows * height + margin + 0.7)
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for ax, (name, part) in zip(axes, panels, strict=False):
        part = part.assign(half=(part["high"] - part["low"]) / 2)
        rates, halves = (
            100
            * part.pivot(index="source", columns="victim", values=values)
            .reindex(index=spec["sources"], columns=spec["victims"])
            .rename(index=spec["labels"], columns=spec["labels"])
            for values in ("error", "half")
        )
        texts = rates.map("{:.1f}".format)
        if spread:
            texts += halves.map(lambda half: "" if math.isnan(half) else f"\n±{half:.1f}")
        ax.tick_params(
            labelsize=max(LEAST, share * LABEL)
        )  # which seaborn leaves out if they touch
        sns.heatmap(
            rates,
            vmin=0,
            vmax=100,
            cmap=RATE_COLOURS,
            annot=texts if rates.size <= MOST_NUMBERS and number >= LEAST else False,
            fmt="",
            annot_kws={"fontsize": number, "linespacing": 1.1},
            linewidths=share * 0.5,
            cbar=False,
            ax=ax,
        )
        # Seaborn's own choice puts white on the middle of the colour map, which reads badly.
        for text in ax.texts:
            text.set_color("black" if float(text.get_text().split("\n")[0]) > 48 else "white")
        ax.grid(visible=False)
        ax.set(title=name, xlabel="", ylabel="")
        ax.tick_params(length=0)
        ax.tick_params(axis="y", rotation=0)
        ax.set_xticks(ax.get_xticks(), ax.get_xticklabels(), rotation=45, ha="right", va="top")
    _hide_spare(axes, len(panels), columns)
    figure.colorbar(axes[0].collections[0], ax=axes, label="victim error (%)", aspect=30)
    figure.supxlabel("victim model", fontsize="medium")
    figure.supylabel("source model", fontsize="medium")
    figure.suptitle(title)
    return figure


def error_curves(cells, spec, title, answers=None):
    """Plot victim error against RMS distortion, one panel for each source.

    Solid lines are amplified adversarial perturbations, dashed ones Gaussian noise on the whole
    pool of images, stars the adversarial images as found.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.experiments.transfer.fields.FIELDS`.
    spec : dict
        What is shown: ``attack``, ``pool``, ``sources``, ``victims``, ``victim_seeds``,
        ``labels``, ``amplify``, ``noise``.
    title : str
    answers : blindspots.experiments.transfer.answers.Answers, optional
        The answers to single images; not needed with one seed.
    """
    shown = _over_seeds(_adversarial(cells, spec), answers)
    noise = _over_seeds(_noise(cells, spec))
    amplified = shown[shown["variant"] == "amplified"]
    if len(amplified):
        noise = noise[noise["rms"] <= amplified["rms"].max()]
    looks = colours_and_markers(spec["victims"])

    entries = [
        (spec["labels"][victim], Line2D([], [], color=colour, marker=marker, markersize=3.5))
        for victim, (colour, marker) in looks.items()
    ]
    entries += [
        ("", Line2D([], [], linestyle="none")),
        ("adversarial, amplified", Line2D([], [], color="0.3")),
        ("adversarial, as found", Line2D([], [], color="0.3", **_STAR)),
        ("Gaussian noise", Line2D([], [], color="0.3", linestyle="--", linewidth=0.9)),
    ]
    names, lines = zip(*entries, strict=True)

    usual = min(3, len(spec["sources"]))
    rows, columns, share = _arranged(len(spec["sources"]), usual, 2.6, 2.1)
    listed = math.ceil(0.18 * len(entries) / HIGHEST)  # columns of the legend
    height = max(share * 2.1 * rows, 0.18 * len(entries) / listed) + 0.6
    legend = listed * (1.9 + 0.06 * max(0, max(map(len, names)) - 25))
    figure = Figure((share * 2.6 * columns + legend, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    noisy = dict(list(noise.sort_values("rms").groupby("victim")))
    pairs = dict(list(shown.sort_values("rms").groupby(["source", "victim"])))
    for ax, source in zip(axes, spec["sources"], strict=False):
        for victim, (colour, marker) in looks.items():
            dashed = noisy[victim]
            ax.plot(dashed["rms"], 100 * dashed["error"], "--", color=colour, linewidth=0.9)
            own = pairs[source, victim]
            solid = own[own["variant"] == "amplified"]
            ax.plot(solid["rms"], 100 * solid["error"], color=colour, marker=marker, markersize=3.5)
            ax.fill_between(
                solid["rms"], 100 * solid["low"], 100 * solid["high"], color=colour, alpha=0.2, lw=0
            )
            found = own[own["variant"] == "as_found"]
            ax.plot(found["rms"], 100 * found["error"], color=colour, zorder=3, **_STAR)
        name = textwrap.fill(f"source: {spec['labels'][source]}", round(40 * share))
        ax.set(title=name, xlim=(0, None), ylim=(-3, 103))
    _hide_spare(axes, len(spec["sources"]), columns)
    figure.supxlabel("RMS distortion", fontsize="medium")
    figure.supylabel("victim error (%)", fontsize="medium")
    figure.suptitle(title)
    if text_width(title, TITLE) > 72 * (share * 2.6 * columns - legend):  # it would meet the legend
        room = share * 2.6 * columns
        figure.suptitle(fitted(title, 68 * room, TITLE, 4), x=room / 2 / (room + legend))

    figure.legend(
        lines,
        names,
        title="victim",
        alignment="left",
        loc="outside right upper",
        ncols=listed,
    )
    return figure


def distortion_distributions(distortions, title):
    """Plot how the RMS distortions of each source's adversarial images are distributed.

    The seeds of a source are pooled; its mean is the mean over them, with its 95 % interval over
    seeds and images.

    Parameters
    ----------
    distortions : dict of str to list of (int, ndarray of int, ndarray of float)
        By label of the source, for each seed: the seed, the positions of the images attacked in
        their base set, and their RMS distortions, NaN where the attack failed.
    title : str
    """
    import seaborn as sns

    pooled = {
        label: np.concatenate([rms for *_, rms in runs]) for label, runs in distortions.items()
    }
    found = {label: rms[~np.isnan(rms)] for label, rms in pooled.items()}
    margin = 0.06 * max(0, max(map(len, found)) - 25)
    # As high as fits, as long as two lines beside each can be read.
    height = min(0.5, max(HIGHEST / len(found), 2 * 1.3 * LEAST / 72))
    points = min(LABEL, 72 * height / (2 * 1.3))
    figure = Figure((6.4 + margin, height * len(found) + 1.2), layout="constrained")
    ax = figure.subplots()
    sns.violinplot(
        found,
        orient="h",
        cut=0,
        density_norm="width",
        inner="quart",
        inner_kws={"color": "0.2", "linewidth": 0.8},
        color=sns.color_palette("colorblind")[9],
        linewidth=0.6,
        ax=ax,
    )
    notes = []
    for position, (label, rms) in enumerate(found.items()):
        runs = distortions[label]
        failed = len(pooled[label]) - len(rms)
        counts = [(~np.isnan(sizes)).sum() for *_, sizes in runs]
        note = images_in_words(len(runs), min(counts), max(counts))
        if len(rms):
            mean = mean_rms(runs)
            low, high = mean.interval()
            bounds = "" if math.isnan(low) else f" [{distortion(low, 4)}, {distortion(high, 4)}]"
            ax.plot(mean.value, position, **_MEAN)
            if bounds:
                ax.plot([low, high], [position, position], color="black", linewidth=1.2)
            note = f"mean {distortion(mean.value, 4)}{bounds}\n{note}"
        in_all = " in all" if len(runs) > 1 else ""
        notes.append(f"{note}, {failed} failed{in_all}" if failed else note)
    ax.set(xlabel="RMS distortion", ylabel="source model", title=title, xlim=(0, None))
    ax.set_yticks(range(len(found)), found, fontsize=points)
    ax.grid(visible=False, axis="y")
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(notes)), notes)
    right.tick_params(length=0, labelsize=points)
    right.spines[:].set_visible(False)
    marks = {
        "mean": Line2D([], [], **_MEAN),
        "median": Line2D([], [], color="0.2", linestyle="--", linewidth=0.8),
        "quartiles": Line2D([], [], color="0.2", linestyle=":", linewidth=0.8),
    }
    figure.legend(marks.values(), marks.keys(), loc="outside lower right", ncols=len(marks))
    return figure


_STAR = {
    "marker": "*",
    "markersize": 9,
    "markerfacecolor": "white",
    "markeredgewidth": 0.9,
    "linestyle": "none",
}
_MEAN = {
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "linestyle": "none",
}


def _adversarial(cells, spec):
    """Return the cells of the adversarial images of an experiment, unclipped."""
    cells = chosen(cells, spec["victim_seeds"])
    return cells[
        (cells["attack"] == spec["attack"])
        & cells["source"].isin(spec["sources"])
        & cells["victim"].isin(spec["victims"])
        & (
            (cells["variant"] == "as_found")
            | ((cells["variant"] == "amplified") & cells["rms"].isin(spec["amplify"]))
        )
    ]


def _noise(cells, spec):
    """Return the cells of clean images (stddev 0) and of Gaussian noise, unclipped."""
    return cells[
        (cells["attack"] == spec["pool"])
        & (cells["source"] == "noise")
        & cells["victim"].isin(spec["victims"])
        & (
            (cells["variant"] == "clean")
            | ((cells["variant"] == "gaussian") & cells["rms"].isin(spec["noise"]))
        )
    ]


def _over_seeds(cells, answers=None):
    """Return mean error and RMS over seeds; with answers or one seed, with bounds of the error."""
    # Amplified cells differ by their level, those as found only by what was measured.
    level = cells["rms"].where(cells["variant"] != "as_found")
    grouped = cells.assign(level=level).groupby(
        ["source", "victim", "variant", "level"], dropna=False, sort=False
    )
    means = grouped.agg(
        rms=("rms", "mean"), error=("error", "mean"), low=("low", "min"), high=("high", "max")
    ).reset_index()
    if cells["seed"].nunique() > 1:
        means[["low", "high"]] = np.nan
        if answers is not None:
            bounds = [answers.rate(cell).rate_interval() for _, cell in grouped]
            means[["low", "high"]] = np.array(bounds).reshape(-1, 2)
    return means


def _range_of_rms(cells):
    """Return in words the mean RMS distortions of the sources' images as found."""
    found = cells.loc[cells["variant"] == "as_found", "rms"].dropna()
    if found.empty:
        return "no attack succeeded"
    low, high = distortion(found.min()), distortion(found.max())
    return f"mean RMS {low}" if low == high else f"mean RMS {low} to {high}"


def _arranged(count, usual, width, height):
    """Return rows and columns of panels, and the share of their size with which they fit.

    The usual number of columns is taken where all fit with it; else the one that leaves the panels
    largest.
    """

    def share(columns):
        rows = math.ceil(count / columns)
        return min(1.0, WIDEST / (columns * width), HIGHEST / (rows * height))

    columns = max([usual, *range(1, count + 1)], key=share)
    return math.ceil(count / columns), columns, share(columns)


def _hide_spare(axes, count, columns):
    """Hide the axes that are not needed and label the last ones in use above them."""
    for ax in axes[count:]:
        ax.set_visible(False)
    for ax in axes[max(0, count - columns) : count]:
        ax.tick_params(labelbottom=True)
