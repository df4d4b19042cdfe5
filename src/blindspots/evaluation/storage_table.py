"""How many adversarial images survive being stored: a table made from the transfer table."""

from dataclasses import dataclass

import pandas as pd

from blindspots.evaluation.intervals import wilson_interval

AS_FOUND, STORED = "as_found", "stored_"
KEYS = ["source", "seed", "attack"]


@dataclass(frozen=True)
class StorageTable:
    """Shares of images that still fool their own source, in three equally shaped views.

    Attributes
    ----------
    values, low, high : pandas.DataFrame
        Two rows for each source, seed and attack, told apart by ``of``: shares of all images
        ``attacked``, and of the ``successes`` of the attack. ``images`` is how many these are; then
        follow one column for each way of storing, and in ``values`` the margins. The bounds are
        those of the 95 % Wilson interval over images.
    ways : list of str
        The columns of shares, in the order of the cells.
    """

    values: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    ways: list


def storage_table(cells, counted="target_hit", margins=None):
    """Make the table of what storing leaves of adversarial images.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.experiments.transfer.fields.FIELDS`.
        Used are the rows in which a source is its own victim, as found and stored.
    counted : str
        The column that is counted: ``target_hit``, or ``n_fooled`` for an untargeted attack.
    margins : pandas.DataFrame, optional
        One row for each source and seed, with columns ``source``, ``seed`` and the means of
        `blindspots.evaluation.storage.storage_margins` over the successes.

    Returns
    -------
    StorageTable

    Raises
    ------
    ValueError
        If the cells hold nothing stored, one cell twice, or no count of the asked for kind.
    """
    variants = cells["variant"].astype(str)
    stored = variants.str.startswith(STORED)
    own = (cells["source"] == cells["victim"]) & (cells["seed"] == cells["victim_seed"])
    own = cells[own & (stored | (variants == AS_FOUND))]
    if not stored[own.index].any():
        raise ValueError("no source has stored images among its own cells")
    if own.duplicated([*KEYS, "variant"]).any():
        raise ValueError("a cell is given twice")
    if own[counted].isna().any():
        raise ValueError(f"some cells have no {counted}")
    ways = list(own["variant"].unique())
    views = {"values": [], "low": [], "high": []}
    for identity, group in own.groupby(KEYS, sort=False):
        for of in ("attacked", "successes"):
            counts = group.set_index("variant")
            totals = counts["n_attacked"]
            if of == "successes":
                totals = totals - counts["n_failed"]
            row = {**dict(zip(KEYS, identity, strict=True)), "of": of, "images": totals.iloc[0]}
            for view in views.values():
                view.append(dict(row))
            for way, count in counts[counted].items():
                total = int(totals[way])
                low, high = wilson_interval(int(count), total)
                views["values"][-1][way] = count / total if total else float("nan")
                views["low"][-1][way], views["high"][-1][way] = low, high
    columns = [*KEYS, "of", "images", *ways]
    values, low, high = (pd.DataFrame(rows, columns=columns) for rows in views.values())
    if margins is not None:
        values = values.merge(margins, on=["source", "seed"], how="left", validate="many_to_one")
    return StorageTable(values, low, high, ways)
