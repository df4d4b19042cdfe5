"""What is shown of storage: how many adversarial images survive it, and by what margins."""

import pandas as pd

from blindspots.evaluation.storage_table import AS_FOUND, storage_table
from blindspots.summary.numbers import digits, distortion

LOW, HIGH = "_low", "_high"
# Measures of `measure_storage` as a reader says them; shares are relative to ||grad m|| ||r||.
MARGIN = "margin"
MEASURES = {
    MARGIN: "margin",
    "statistical": "statistical margin",
    "statistical_share": "statistical share",
    "guaranteed": "guaranteed margin",
    "guaranteed_share": "guaranteed share",
    "rounding_rms": "RMS of rounding",
}


def own_cells(cells, spec):
    """Return the cells of an experiment in which a source sees its own images, as it stored them.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.experiments.transfer.fields.FIELDS`.
    spec : dict
        What is shown: ``attack``, ``sources``, and ``stored``, pairs of the name of a variant in
        that table and the name that readers see.
    """
    ways = [AS_FOUND, *(name for name, _ in spec["stored"])]
    own = cells[
        (cells["attack"] == spec["attack"])
        & cells["source"].isin(spec["sources"])
        & (cells["source"] == cells["victim"])
        & (cells["seed"] == cells["victim_seed"])
        & cells["variant"].isin(ways)
    ]
    # In the order in which they were asked for: the row of a set serves other experiments, too.
    order = own[["source", "seed", "variant"]].assign(
        source=own["source"].map(spec["sources"].index), variant=own["variant"].map(ways.index)
    )
    return own.loc[order.sort_values(["source", "seed", "variant"]).index]


def made_table(cells, spec, records):
    """Return the table of one experiment.

    Parameters
    ----------
    cells : pandas.DataFrame
        As `own_cells` returns them.
    spec : dict
        ``targets`` of the attack.
    records : list of dict
        For each source and seed: ``source``, ``seed``, and ``measures``, each of which has a
        ``mean`` and ``quartiles``; there are none where no attack succeeded.

    Returns
    -------
    blindspots.evaluation.storage_table.StorageTable
    """
    means = pd.DataFrame(
        [
            {"source": record["source"], "seed": record["seed"]}
            | {key: record["measures"].get(key, {}).get("mean") for key in MEASURES}
            for record in records
        ]
    )
    counted = "n_fooled" if spec["targets"] == "untargeted" else "target_hit"
    return storage_table(cells, counted, means)


def numbers(table, labels):
    """Return a table as one frame: bounds behind each share, labels for models."""
    result = table.values.drop(columns=[*table.ways, *MEASURES])
    result = result.assign(source=result["source"].map(labels)).rename(columns={"source": "model"})
    for way in table.ways:
        result[way] = table.values[way]
        result[way + LOW], result[way + HIGH] = table.low[way], table.high[way]
    return result.join(table.values[list(MEASURES)])


def sections(table, cells, spec, records):
    """Return what is shown of storage: shares of two denominators, RMS distortions, margins.

    Parameters
    ----------
    table : blindspots.evaluation.storage_table.StorageTable
    cells : pandas.DataFrame
        As `own_cells` returns them.
    spec : dict
        ``title``, ``dataset``, ``pool``, ``seeds``, ``targets``, ``labels``, ``stored``.
    records : list of dict
        As for `made_table`.

    Returns
    -------
    list of (str, str, pandas.DataFrame)
        Heading, notes and table, as `blindspots.summary.page.page` takes them.
    """
    words = {AS_FOUND: "as found", **dict(spec["stored"])}
    still = "still misclassified" if spec["targets"] == "untargeted" else "target still hit"
    measured = {(record["source"], record["seed"]): record["measures"] for record in records}
    sizes = {(c.source, c.seed, c.variant): c.rms for c in cells.itertuples()}
    shares, distortions, margins = {"attacked": [], "successes": []}, [], []
    views = (table.values, table.low, table.high)
    for row, low, high in zip(*(view.to_dict("records") for view in views), strict=True):
        key = (row["source"], row["seed"])
        who = {"model": [spec["labels"][row["source"]]]}
        if len(spec["seeds"]) > 1:
            who["seed"] = [str(row["seed"])]
        counts = {"images": [str(row["images"])], "margin": _measure(measured[key], MARGIN)}
        shares[row["of"]].append(
            who | counts | {words[w]: _share(row[w], low[w], high[w]) for w in table.ways}
        )
        if row["of"] == "successes":
            distortions.append(who | {words[w]: _size(sizes[*key, w]) for w in table.ways})
            margins.append(
                who | {said: _measure(measured[key], one) for one, said in MEASURES.items()}
            )
    title = spec["title"]
    return [
        (
            f"{title}: {still}, of the images attacked",
            notes(spec),
            pd.DataFrame(shares["attacked"]),
        ),
        (
            f"{title}: {still}, of the successes",
            "As above, over the images on which the attack succeeded.",
            pd.DataFrame(shares["successes"]),
        ),
        (
            f"{title}: mean RMS distortion as stored",
            "Over the images on which the attack succeeded, whether they survive or not; the "
            "rounding of pixels is part of it.",
            pd.DataFrame(distortions),
        ),
        (f"{title}: margins", MARGIN_NOTES, pd.DataFrame(margins)),
    ]


MARGIN_NOTES = (
    "In logits, of the images as found; means over the images on which the attack succeeded, and "
    "quartiles. The margin m is what the attack leaves between the class aimed at and the "
    "strongest other one. No rounding undoes the guaranteed margin, ||grad m||_1 / 510, and hardly "
    "any the statistical one, 4 ||grad m||_2 / (255 sqrt 12), both to first order. Shares are "
    "relative to ||grad m|| ||r||: about how much longer the perturbation r has to be. RMS of "
    "rounding: of the change by rounding alone."
)


def notes(spec):
    """Return what a reader must know of the shares: images, targets, seeds, ways, intervals."""
    goal = (
        "a label other than the true one"
        if spec["targets"] == "untargeted"
        else "the label that the attack aimed at"
    )
    third = (
        ""
        if spec["targets"] == "untargeted"
        else "Where the target is missed, the image may still be misclassified as a third label, "
        "which a longer perturbation can favour: see n_fooled in transfer.csv. "
    )
    seeds = spec["seeds"]
    if len(seeds) == 1:
        runs = f"Seed {seeds[0]}; in brackets 95 % Wilson intervals over images."
    else:
        runs = (
            f"Seeds {', '.join(map(str, seeds))}, a row each; in brackets 95 % Wilson intervals "
            "over the images of that seed alone, which do not tell how much seeds differ."
        )
    return (
        f"{spec['dataset']}, images of {spec['pool']} that the source classifies correctly; "
        f"targets: {spec['targets'].replace('_', '-')}. Share of adversarial images, stored with 8 "
        f"bits for each pixel and read back, to which their own source still gives {goal}; failed "
        "attacks count as lost. PNG: each pixel rounded to the nearest of 256 levels. Cut off: to "
        "the level below, as writers do that cast without rounding. JPEG: at this quality. 1.01 x: "
        "the perturbation is lengthened by this factor before. Until it survives: by 1.01 and, "
        "where that does not fool the source, in other ways, which ask the source. Margin: of the "
        "images as found, mean and quartiles in logits; the smaller it is the less survives. "
        f"{third}{runs}"
    )


def _share(value, low, high):
    if pd.isna(value):
        return [""]
    return [f"{100 * value:.2f} %", f"[{100 * low:.2f}, {100 * high:.2f}]"]


def _size(rms):
    return ["" if pd.isna(rms) else distortion(rms, 4)]


def _measure(measures, key):
    """Return mean and quartiles of a measure as texts; shares in per cent."""
    if key not in measures:
        return [""]
    scale, unit = (100, " %") if key.endswith("_share") else (1, "")
    quartiles = ", ".join(digits(scale * value, 2) for value in measures[key]["quartiles"])
    return [f"{digits(scale * measures[key]['mean'], 3)}{unit}", f"quartiles {quartiles}"]
