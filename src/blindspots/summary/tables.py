"""The published tables, made from the tidy transfer table.

Rates are means over seeds. With one seed the bounds are the 95 % Wilson interval over images; with
several they are the lowest and the highest seed.
"""

from dataclasses import dataclass

import pandas as pd

from blindspots.escapes import escape_latex, escape_markdown
from blindspots.evaluation.intervals import wilson_interval

PRINTED = "_printed"
COUNTS = ("attacked", "failures")
NOISE, AMPLIFIED = "Gaussian noise", " amplified"


@dataclass
class Table:
    """A table in three equally shaped views.

    Attributes
    ----------
    values, low, high : pandas.DataFrame
        Numbers and texts, and the bounds of the rates (missing elsewhere).
    rates : list of str
        Columns that hold rates.
    labels : set of str
        Columns that are labels of models.
    """

    values: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    rates: list
    labels: set


def make_table(cells, spec, both_right=False):
    """Make a table of one of the three kinds that the paper prints.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.evaluation.fields.FIELDS`.
    spec : dict
        ``kind``: ``models`` (tables 1 and 3: clean errors and mean minimum distortion), ``matrix``
        (table 2: every source on every victim), ``levels`` (table 4: the same, and amplified);
        what is shown: ``sources``, ``victims``, ``labels``, ``descriptions``, ``attack``,
        ``pool``, ``clean``, ``amplify``, ``noise``.
    both_right : bool
        Take rates over the images that the victim, too, classifies correctly when clean, in place
        of all images attacked.

    Returns
    -------
    Table
    """
    rows = {"models": _models_rows, "matrix": _matrix_rows, "levels": _levels_rows}[spec["kind"]]
    views = {"values": [], "low": [], "high": []}
    rates = []
    for row in rows(cells, spec, both_right):
        for view in views.values():
            view.append({})
        for column, entry in row.items():
            is_rate = isinstance(entry, tuple)
            if is_rate and column not in rates:
                rates.append(column)
            bounds = entry if is_rate else (entry, None, None)
            for view, number in zip(views.values(), bounds, strict=True):
                view[-1][column] = number
    labels = set() if spec["kind"] == "models" else {spec["labels"][v] for v in spec["victims"]}
    values, low, high = (pd.DataFrame(view) for view in views.values())
    return Table(values.astype(dict.fromkeys(COUNTS, "Int64")), low, high, rates, labels)


def with_printed(table, printed):
    """Put the printed number beside each number for which there is one.

    Parameters
    ----------
    table : pandas.DataFrame
        Values of a table.
    printed : pandas.DataFrame
        The printed table, with the same first column and column names.

    Returns
    -------
    pandas.DataFrame
        With a column ``<column>_printed`` behind each column that was printed.
    """
    key = table.columns[0]

    def identity(row):
        # Rows of noise share a label; they and amplified ones stand for their level.
        label, amplified, _ = str(row[key]).partition(AMPLIFIED)
        leveled = "stddev" in row and (amplified or label == NOISE)
        return (row[key], None) if not leveled else (label, round(float(row["stddev"]), 6))

    known = {identity(row): row for _, row in printed.iterrows()}
    result = table[[key]].copy()
    for column in table.columns[1:]:
        result[column] = table[column]
        if column in printed and pd.api.types.is_numeric_dtype(printed[column]):
            result[column + PRINTED] = [
                known[identity(row)][column] if identity(row) in known else None
                for _, row in table.iterrows()
            ]
    return result


def readable(table, values):
    """Return a table as one reads it: rates in per cent, with their bounds and printed numbers.

    Parameters
    ----------
    table : Table
    values : pandas.DataFrame
        The table's values, with or without printed numbers.

    Returns
    -------
    pandas.DataFrame
        Each cell is a list of texts: the value and what stands beside it.
    """
    shown = pd.DataFrame()
    for column in table.values:
        cells = []
        for index, value in enumerate(values[column]):
            texts = [_text(value, column in table.rates)]
            low, high = (
                view[column].iloc[index] if column in table.rates else None
                for view in (table.low, table.high)
            )
            if column in table.rates and pd.notna(value) and pd.notna(low):
                texts.append(f"[{100 * low:.2f}, {100 * high:.2f}]")
            if column + PRINTED in values and pd.notna(values[column + PRINTED].iloc[index]):
                printed = _text(values[column + PRINTED].iloc[index], column in table.rates)
                texts.append(f"(print {printed})")
            cells.append(texts)
        shown[_heading(column, table)] = cells
    return shown


def to_markdown(table, values, title, notes):
    """Return a table as Markdown, rates in per cent with their bounds and printed numbers.

    Parameters
    ----------
    table : Table
    values : pandas.DataFrame
        The table's values, with or without printed numbers.
    title : str
    notes : str
        The caption.
    """
    shown = readable(table, values)
    shown.columns = shown.columns.map(escape_markdown)
    body = shown.map(_markdown_cell).to_markdown(index=False, disable_numparse=True)
    return f"### {escape_markdown(title)}\n\n{escape_markdown(notes)}\n\n{body}\n"


def to_latex(table, values, title, notes):
    """Return a table as LaTeX (booktabs), rates in per cent, printed numbers in parentheses."""
    shown = pd.DataFrame()
    for column in table.values:
        texts = []
        for index, value in enumerate(values[column]):
            text = _text(value, column in table.rates)
            if column + PRINTED in values and pd.notna(values[column + PRINTED].iloc[index]):
                text += f" ({_text(values[column + PRINTED].iloc[index], column in table.rates)})"
            texts.append(escape_latex(text))
        shown[escape_latex(_heading(column, table))] = texts
    width = "l" + "r" * (len(shown.columns) - 1)
    body = shown.to_latex(index=False, escape=False, column_format=width)
    others = "".join(sorted({character for character in notes + body if not character.isascii()}))
    engine = f"% needs LuaLaTeX or XeLaTeX if pdfLaTeX lacks one of: {others}\n" if others else ""
    return (
        f"% needs \\usepackage{{booktabs}}\n{engine}\\begin{{table}}\n\\centering\n"
        f"\\caption{{{escape_latex(notes)}}}\n\\label{{tab:{title}}}\n{body}\\end{{table}}\n"
    )


def caption(spec, printed, bounds=True):
    """Return what a reader must know of a table: images, targets, seeds, denominators.

    Parameters
    ----------
    spec : dict
        As for `make_table`.
    printed, bounds : bool
        Whether the table shows printed numbers, and bounds of the rates.
    """
    seeds = ", ".join(map(str, spec["seeds"]))
    single = len(spec["seeds"]) == 1
    rates = "" if single else " Rates are means over seeds."
    if bounds:
        what = "95 % Wilson intervals over images" if single else "Lowest and highest seed"
        rates += f" {what} in brackets."
    beside = " Printed numbers (Szegedy et al. 2013) in parentheses." if printed else ""
    title = spec["caption"].strip().rstrip(".")
    return (
        f"{title}{'. ' if title else ''}{spec['dataset']}; targets: {spec['targets']}; "
        f"seeds: {seeds}. Attacked are the images of {spec['pool']} that the source classifies "
        "correctly; transfer rates are over the images attacked, failed attacks counting as not "
        f"fooled; noise and clean errors are over all images of their pool.{rates}{beside}"
    )


def _models_rows(cells, spec, both_right):
    for source in spec["sources"]:
        row = {"model": spec["labels"][source], "description": spec["descriptions"][source]}
        for pool in spec["clean"]:
            name = f"{pool}_error" if pool in ("train", "test") else f"error_{pool}"
            chosen = _select(cells, source="noise", attack=pool, victim=source, variant="clean")
            row[name] = _rate(chosen, False)
        row["mean_min_distortion"] = _own(cells, spec, source)["rms"].mean()
        yield row | _counts(cells, spec, source)


def _matrix_rows(cells, spec, both_right):
    for source in spec["sources"]:
        row = {"distorted_for": spec["labels"][source]}
        row |= _victims(cells, spec, both_right, source=source, variant="as_found")
        row["mean_distortion"] = _own(cells, spec, source)["rms"].mean()
        yield row | _counts(cells, spec, source)
    for level in spec["noise"]:
        row = {"distorted_for": f"{NOISE}, stddev={level:g}"}
        row |= _victims(cells, spec, both_right, source="noise", variant="gaussian", rms=level)
        row["mean_distortion"] = level
        yield row | dict.fromkeys(COUNTS)


def _levels_rows(cells, spec, both_right):
    # As in print: each size of distortion is followed by the noise of about that size.
    noise = sorted(spec["noise"])
    sizes = [None, *sorted(spec["amplify"])]
    for position, level in enumerate(sizes):
        for source in spec["sources"]:
            label = f"Distorted for {spec['labels'][source]}"
            own = _own(cells, spec, source)["rms"].mean()
            if level is None:
                row = {"distortion": label, "stddev": own}
                row |= _victims(cells, spec, both_right, source=source, variant="as_found")
            else:
                several = "" if len(sizes) == 2 else f" to {level:g}"
                row = {"distortion": f"{label}{AMPLIFIED}{several}", "stddev": level}
                row |= _victims(
                    cells, spec, both_right, source=source, variant="amplified", rms=level
                )
            yield row | _counts(cells, spec, source)
        upper = sizes[position + 1] if position + 1 < len(sizes) else float("inf")
        lower = level or 0.0
        for stddev in [s for s in noise if lower <= s < upper]:
            row = {"distortion": NOISE, "stddev": stddev}
            row |= _victims(cells, spec, both_right, source="noise", variant="gaussian", rms=stddev)
            yield row | dict.fromkeys(COUNTS)


def _victims(cells, spec, both_right, **wanted):
    """Return label and rate of every victim for one perturbation."""
    attack = spec["pool"] if wanted["source"] == "noise" else spec["attack"]
    chosen = dict(list(_select(cells, attack=attack, **wanted).groupby("victim")))
    return {spec["labels"][victim]: _rate(chosen[victim], both_right) for victim in spec["victims"]}


def _own(cells, spec, source):
    """Return the cells of a source's own set, as found, on any victim: one for each seed."""
    chosen = _select(cells, source=source, attack=spec["attack"], variant="as_found")
    return chosen.drop_duplicates("seed")


def _counts(cells, spec, source):
    own = _own(cells, spec, source)
    return {"attacked": int(own["n_attacked"].sum()), "failures": int(own["n_failed"].sum())}


def _select(cells, **wanted):
    chosen = cells
    for column, value in wanted.items():
        chosen = chosen[chosen[column] == value]
    return chosen


def _rate(cells, both_right):
    """Return a rate and its bounds: over images with one seed, over seeds with several."""
    fooled, total = (
        ("n_fooled_both_right", "n_both_right") if both_right else ("n_fooled", "n_attacked")
    )
    rates = cells[fooled] / cells[total]
    if len(cells) == 1:
        return rates.item(), *wilson_interval(int(cells[fooled].item()), int(cells[total].item()))
    return rates.mean(), rates.min(), rates.max()


def _markdown_cell(texts):
    """Return a cell of `readable`; what stands beside its text are our own brackets."""
    text, *beside = texts
    return " ".join([escape_markdown(text), *beside])


def _text(value, rate):
    if value is None or pd.isna(value):
        return ""
    if rate:
        return f"{100 * value:.2f} %"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"


def _heading(column, table):
    """Return a column as it is shown; the labels of models stay what they are."""
    return column if column in table.labels else column.replace("_", " ")
