"""Tables of detectors: how good each is, and how little deceives it in either direction."""

import numpy as np
import pandas as pd

from blindspots.evaluation.detection import area_under_roc, balanced_accuracy, mean_over_runs
from blindspots.summary.numbers import distortion

NUMBERS = ("balanced_accuracy", "auc", "rms", "success")
COLUMNS = ("data", "stages", "features", "balanced_accuracy", "auc", "direction", "rms", "success")
NOTES = (
    "Filters are learned without labels (rica), drawn in the space of whitened patches (whitened) "
    "or in that of patches (random), and frozen; a logistic classifier, whose ridge was picked on "
    "images held out, is all that has seen labels. Pixels: the same classifier without filters. "
    "Balanced accuracy is the mean of the two rates of right answers, AUC the area under the ROC "
    "curve, both on images that no model has seen. RMS is the mean smallest distortion of the "
    "images that were answered rightly and deceived the detector; success is their share of all "
    "that were attacked. {intervals} in brackets."
)


def detector_rows(measured, models, data, directions):
    """Return the tidy table of some detectors.

    Parameters
    ----------
    measured : dict of str to dict of int to dict of str to ndarray
        For each model and seed ``scores`` and ``labels`` (N,), and of the images attacked
        ``attacked_labels``, ``attacked_indices``, ``attacked_success``, ``attacked_rms`` (B,).
    models : dict of str to dict
        ``label``, ``stages`` and ``features`` of each model.
    data : str
    directions : list of str
        By the true label.

    Returns
    -------
    pandas.DataFrame
        For each model and direction a row with means over seeds, and their 95 % intervals in
        ``..._low`` and ``..._high``; `COLUMNS` come first.
    """
    rows = []
    for model, runs in measured.items():
        seeds, parts = list(runs), list(runs.values())
        found = {
            "balanced_accuracy": _accuracy(balanced_accuracy, parts, seeds),
            "auc": _accuracy(area_under_roc, parts, seeds),
        }
        for label in (1, 0):
            found |= _deceived(parts, label, seeds)
            row = {"data": data, **models[model], "model": model, "seeds": len(seeds)}
            row |= {"direction": directions[label], "images": len(parts[0]["labels"])}
            for name, mean in found.items():
                low, high = mean.size_interval() if name == "rms" else mean.rate_interval()
                row |= {name: mean.value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row | {"attacked": found["success"].images})
    beside = [f"{name}_{end}" for name in NUMBERS for end in ("low", "high")]
    order = [*COLUMNS, *beside, "model", "label", "seeds", "images", "attacked"]
    return pd.DataFrame(rows, columns=order)


def _accuracy(of, parts, seeds):
    values = np.stack([of(part["scores"].astype(float), part["labels"]) for part in parts])
    return mean_over_runs(values, np.ones(values.shape, bool), seeds)


def _deceived(parts, label, seeds):
    """Return the mean RMS and the rate of success, over the images of one label."""
    size = 1 + max(int(part["attacked_indices"].max()) for part in parts)
    rms, success, attacked = np.zeros((3, len(parts), size))
    for run, part in enumerate(parts):
        own = part["attacked_labels"] == label
        places = part["attacked_indices"][own]
        attacked[run, places] = True
        success[run, places] = part["attacked_success"][own]
        rms[run, places] = np.nan_to_num(part["attacked_rms"][own])
    return {
        "rms": mean_over_runs(rms, success > 0, seeds),
        "success": mean_over_runs(success, attacked > 0, seeds),
    }


def detector_table(table):
    """Return what is shown of a tidy table, as `blindspots.summary.page.page` takes it.

    Parameters
    ----------
    table : pandas.DataFrame
        As `detector_rows` returns it.

    Returns
    -------
    list of (str, str, pandas.DataFrame)
    """
    seeds = table["seeds"].max()
    over = "95 % intervals over images" if seeds == 1 else f"Means of {seeds} seeds; 95 % intervals"
    shown = [
        {
            "detector": [row["label"], *_stages(row["stages"])],
            "features": [row["features"]],
            "balanced accuracy": _rate(row, "balanced_accuracy"),
            "AUC": _rate(row, "auc"),
            "direction": [row["direction"], f"{row['attacked']:.0f} attacked"],
            "RMS": _between(row, "rms", lambda rms: distortion(rms, 4)),
            "success": _rate(row, "success"),
        }
        for _, row in table.iterrows()
    ]
    notes = NOTES.format(intervals=over)
    return [(str(table["data"].iloc[0]), notes, pd.DataFrame(shown))]


def _stages(count):
    return [f"{count} stages" if count > 1 else "1 stage"] if count else []


def _rate(row, name):
    return _between(row, name, "{:.3f}".format)


def _between(row, name, text):
    """Return a number, and its interval if it has one."""
    if pd.isna(row[name]):
        return ["none"]
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return [text(row[name]), *([] if pd.isna(low) else [f"[{text(low)}, {text(high)}]"])]
