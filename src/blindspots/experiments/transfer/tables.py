"""The published tables, made from the tidy transfer table.

Rates and mean distortions are means over seeds. With one seed the bounds of a rate are the 95 %
Wilson interval over images; with several, bounds are 95 % intervals over seeds and images
(`blindspots.evaluation.seeds`), or missing where the seeds are too few.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from blindspots.escapes import escape_latex, escape_markdown
from blindspots.evaluation.intervals import wilson_interval
from blindspots.evaluation.seeds import FEWEST
from blindspots.experiments.transfer.answers import images_in_words
from blindspots.experiments.transfer.victim_seeds import IN_WORDS, chosen
from blindspots.summary.latex import Column, fitted

PRINTED, LOW, HIGH = "_printed", "_low", "_high"
FAILURES = "failures"
COUNTS = ("attacked", FAILURES)
NOISE, AMPLIFIED = "Gaussian noise", " amplified"


@dataclass
class Table:
    """A table in three equally shaped views.

    Attributes
    ----------
    values, low, high : pandas.DataFrame
        Numbers and texts; the bounds of rates and mean distortions; of the counts of images, which
        are means over seeds, the least and the most of a seed. Missing elsewhere.
    rates : list of str
        Columns that hold rates.
    labels : set of str
        Columns that are labels of models.
    seeds : int
        Seeds that the values are means over.
    """

    values: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    rates: list
    labels: set
    seeds: int


class Bounded(NamedTuple):
    """A number and its bounds, which may be missing."""

    value: float
    low: float | None = None
    high: float | None = None
    rate: bool = False


def make_table(cells, spec, both_right=False, answers=None):
    """Make a table of one of the three kinds that the paper prints.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.experiments.transfer.fields.FIELDS`.
    spec : dict
        ``kind``: ``models`` (tables 1 and 3: clean errors and mean minimum distortion), ``matrix``
        (table 2: every source on every victim), ``levels`` (table 4: the same, and amplified);
        what is shown: ``sources``, ``victims``, ``labels``, ``descriptions``, ``attack``,
        ``pool``, ``clean``, ``amplify``, ``noise``, ``seeds``, ``victim_seeds``.
    both_right : bool
        Take rates over the images that the victim, too, classifies correctly when clean, in place
        of all images attacked.
    answers : blindspots.experiments.transfer.answers.Answers, optional
        The answers to single images; not needed with one seed.

    Returns
    -------
    Table
    """
    rows = {"models": _models_rows, "matrix": _matrix_rows, "levels": _levels_rows}[spec["kind"]]
    views = {"values": [], "low": [], "high": []}
    rates = []
    cells = chosen(cells, spec["victim_seeds"])
    for row in rows(_Measured(cells, answers, both_right), spec):
        for view in views.values():
            view.append({})
        for column, entry in row.items():
            entry = entry if isinstance(entry, Bounded) else Bounded(entry)
            if entry.rate and column not in rates:
                rates.append(column)
            for view, number in zip(views.values(), entry[:3], strict=True):
                view[-1][column] = number
    labels = set() if spec["kind"] == "models" else {spec["labels"][v] for v in spec["victims"]}
    values, low, high = (pd.DataFrame(view) for view in views.values())
    seeds = len(spec["seeds"])
    counts = dict.fromkeys(COUNTS, "Int64" if seeds == 1 else "Float64")
    return Table(values.astype(counts), low, high, rates, labels, seeds)


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


def with_bounds(table, values):
    """Put the bounds of means over several seeds behind them; with one seed add nothing.

    Parameters
    ----------
    table : Table
    values : pandas.DataFrame
        The table's values, with or without printed numbers.

    Returns
    -------
    pandas.DataFrame
        With columns ``<column>_low`` and ``<column>_high`` behind each column that has bounds.
    """
    if table.seeds == 1:
        return values
    result = pd.DataFrame(index=values.index)
    for column in values:
        result[column] = values[column]
        if column in table.low and column not in COUNTS and table.low[column].notna().any():
            result[column + LOW] = table.low[column]
            result[column + HIGH] = table.high[column]
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
        cells = _texts(table, values, column, " %")
        shown[_heading(column, table)] = [
            [value, *filter(None, [bounds, printed and f"(print {printed})"])]
            for value, bounds, printed in cells
        ]
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
    """Return a table as LaTeX (booktabs) that is no wider than the text of an article.

    Rates are in per cent, printed numbers in parentheses, and bounds below the values.

    Parameters
    ----------
    table, values, title, notes
        As for `to_markdown`.
    """
    columns = [
        Column(
            _heading(column, table),
            _texts(table, values, column, ""),
            escape_latex,
            number=pd.api.types.is_numeric_dtype(table.values[column])
            and not _in_words(table, column),
        )
        for column in table.values
    ]
    caption = escape_latex(f"{notes} Rates are in per cent.")
    body = fitted(columns, caption, f"tab:{title}")
    others = "".join(sorted({character for character in body if not character.isascii()}))
    engine = f"% needs LuaLaTeX or XeLaTeX if pdfLaTeX lacks one of: {others}\n" if others else ""
    return f"% needs \\usepackage{{booktabs}}\n{engine}{body}"


def caption(spec, printed):
    """Return what a reader must know of a table: images, targets, seeds, denominators.

    Parameters
    ----------
    spec : dict
        As for `make_table`.
    printed : bool
        Whether the table shows printed numbers.
    """
    seeds = ", ".join(map(str, spec["seeds"]))
    if victims := IN_WORDS[spec["victim_seeds"]]:
        seeds += f"; {victims}"
    rates = f" {intervals_in_words(len(spec['seeds']))}"
    beside = " Printed numbers (Szegedy et al. 2013) in parentheses." if printed else ""
    title = spec["caption"].strip().rstrip(".")
    return (
        f"{title}{'. ' if title else ''}{spec['dataset']}; targets: {spec['targets']}; "
        f"seeds: {seeds}. Attacked are the images of {spec['pool']} that the source classifies "
        "correctly; transfer rates are over the images attacked, failed attacks counting as not "
        f"fooled; noise and clean errors are over all images of their pool.{rates}{beside}"
    )


def intervals_in_words(seeds):
    """Return what the numbers of a table, and those in brackets, are."""
    if seeds == 1:
        return "95 % Wilson intervals over images in brackets."
    means = f"Rates and mean distortions are means over {seeds} seeds"
    if seeds < FEWEST:
        return f"{means}, too few for intervals."
    return (
        f"{means}; in brackets 95 % intervals over seeds and images, which are crossed "
        f"(t with {seeds - 1} degrees of freedom)."
    )


class _Measured:
    """The cells of the transfer table, and the numbers that a table shows of them."""

    def __init__(self, cells, answers, both_right):
        self.cells = cells
        self.answers = answers
        self.both_right = both_right

    def select(self, **wanted):
        """Return the cells with these values."""
        chosen = self.cells
        for column, value in wanted.items():
            chosen = chosen[chosen[column] == value]
        return chosen

    def victims(self, spec, **wanted):
        """Return label and rate of every victim for one perturbation."""
        attack = spec["pool"] if wanted["source"] == "noise" else spec["attack"]
        chosen = dict(list(self.select(attack=attack, **wanted).groupby("victim")))
        return {spec["labels"][v]: self.rate(chosen[v], self.both_right) for v in spec["victims"]}

    def rate(self, cells, both_right=False):
        """Return the rate of one cell: over images with one seed, over seeds too with several."""
        fooled, total = (
            ("n_fooled_both_right", "n_both_right") if both_right else ("n_fooled", "n_attacked")
        )
        rate = (cells[fooled] / cells[total]).mean()
        if len(cells) == 1:
            low, high = wilson_interval(int(cells[fooled].item()), int(cells[total].item()))
        else:
            low, high = self.answers.rate(cells, both_right).rate_interval()
        return Bounded(rate, low, high, rate=True)

    def rms(self, spec, source):
        """Return the mean distortion of a source's images as found."""
        own = self.own(spec, source)
        mean = own["rms"].mean()
        return Bounded(mean) if len(own) == 1 else Bounded(mean, *self.answers.rms(own).interval())

    def counts(self, spec, source):
        """Return how many images were attacked, and how many attacks failed: means over seeds."""
        own = self.own(spec, source)
        numbers = (own["n_attacked"], own["n_failed"])
        return {
            name: Bounded(number.mean(), number.min(), number.max())
            for name, number in zip(COUNTS, numbers, strict=True)
        }

    def own(self, spec, source):
        """Return the cells of a source's own set, as found, on any victim: one for each seed."""
        chosen = self.select(source=source, attack=spec["attack"], variant="as_found")
        return chosen.drop_duplicates("seed")


def _models_rows(measured, spec):
    for source in spec["sources"]:
        row = {"model": spec["labels"][source], "description": spec["descriptions"][source]}
        for pool in spec["clean"]:
            name = f"{pool}_error" if pool in ("train", "test") else f"error_{pool}"
            chosen = measured.select(source="noise", attack=pool, victim=source, variant="clean")
            row[name] = measured.rate(chosen)
        row["mean_min_distortion"] = measured.rms(spec, source)
        yield row | measured.counts(spec, source)


def _matrix_rows(measured, spec):
    for source in spec["sources"]:
        row = {"distorted_for": spec["labels"][source]}
        row |= measured.victims(spec, source=source, variant="as_found")
        row["mean_distortion"] = measured.rms(spec, source)
        yield row | measured.counts(spec, source)
    for level in spec["noise"]:
        row = {"distorted_for": f"{NOISE}, stddev={level:g}"}
        row |= measured.victims(spec, source="noise", variant="gaussian", rms=level)
        row["mean_distortion"] = level
        yield row | dict.fromkeys(COUNTS)


def _levels_rows(measured, spec):
    # As in print: each size of distortion is followed by the noise of about that size.
    noise = sorted(spec["noise"])
    sizes = [None, *sorted(spec["amplify"])]
    for position, level in enumerate(sizes):
        for source in spec["sources"]:
            label = f"Distorted for {spec['labels'][source]}"
            if level is None:
                row = {"distortion": label, "stddev": measured.rms(spec, source)}
                row |= measured.victims(spec, source=source, variant="as_found")
            else:
                several = "" if len(sizes) == 2 else f" to {level:g}"
                row = {"distortion": f"{label}{AMPLIFIED}{several}", "stddev": level}
                row |= measured.victims(spec, source=source, variant="amplified", rms=level)
            yield row | measured.counts(spec, source)
        upper = sizes[position + 1] if position + 1 < len(sizes) else float("inf")
        lower = level or 0.0
        for stddev in [s for s in noise if lower <= s < upper]:
            row = {"distortion": NOISE, "stddev": stddev}
            row |= measured.victims(spec, source="noise", variant="gaussian", rms=stddev)
            yield row | dict.fromkeys(COUNTS)


def _texts(table, values, column, percent):
    """Return value, bounds and printed number of each cell of a column as texts, empty if missing.

    ``percent`` stands behind rates.
    """
    rate = column in table.rates
    printed = values.get(column + PRINTED, [None] * len(values))
    cells = []
    for value, low, high, other in zip(
        values[column], table.low[column], table.high[column], printed, strict=True
    ):
        text = _text(value, rate, percent)
        bounds = ""
        if _in_words(table, column) and pd.notna(value):
            few, many = _text(low, False, ""), _text(high, False, "")
            text = images_in_words(table.seeds, few, many)
            if column == FAILURES:
                text = few if few == many else f"{few} to {many}"
        elif column not in COUNTS and pd.notna(value) and pd.notna(low):
            few, many = (_text(bound, rate, "") for bound in (low, high))
            bounds = f"[{few}, {many}]"
        cells.append((text, bounds, _text(other, rate, percent)))
    return cells


def _in_words(table, column):
    """Tell whether a column is a count that differs from seed to seed."""
    return column in COUNTS and table.seeds > 1


def _markdown_cell(texts):
    """Return a cell of `readable`; what stands beside its text are our own brackets."""
    text, *beside = texts
    return " ".join([escape_markdown(text), *beside])


def _text(value, rate, percent):
    if value is None or pd.isna(value):
        return ""
    if rate:
        return f"{100 * value:.2f}{percent}"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"


def _heading(column, table):
    """Return a column as it is shown; the labels of models stay what they are."""
    return column if column in table.labels else column.replace("_", " ")
