"""The published tables, from a transfer table made by hand."""

import re
import subprocess
from itertools import product
from shutil import which

import numpy as np
import pandas as pd
import pytest

from blindspots.experiments.transfer.answers import Answers
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.experiments.transfer.tables import (
    COUNTS,
    caption,
    make_table,
    readable,
    to_latex,
    to_markdown,
    with_bounds,
    with_printed,
)
from blindspots.summary.page import page

SPEC = {
    "sources": ["A", "B"],
    "victims": ["A", "B"],
    "labels": {"A": "A'", "B": "B"},
    "descriptions": {"A": "first", "B": "second"},
    "attack": "attack",
    "pool": "test",
    "clean": ["train", "P1"],
    "targets": "random",
    "seeds": [0],
    "victim_seeds": "same",
    "dataset": "MNIST",
    "caption": "A caption.",
    "amplify": [0.1],
    "noise": [0.06, 0.1],
}


def cell(source, victim, variant, rms, fooled, seed=0, attack="attack", both=80, failed=0):
    row = dict.fromkeys(FIELDS)
    row |= {"source": source, "victim": victim, "seed": seed, "victim_seed": seed}
    row |= {"attack": attack, "variant": variant, "rms": rms}
    row |= {"n_attacked": 100, "n_failed": failed}
    row |= {"n_fooled": fooled, "n_both_right": both, "n_fooled_both_right": min(fooled, both) // 2}
    return row | {"error": fooled / 100, "low": 0.0, "high": 1.0}


def all_cells(seed=0, more=0):
    rows = []
    for source, rms, failed in (("A", 0.05, 2), ("B", 0.07, 0)):
        for victim in "AB":
            fooled = 98 if source == victim else 10 + more
            rows.append(cell(source, victim, "as_found", rms, fooled, seed, failed=failed))
            rows.append(cell(source, victim, "amplified", 0.1, 40 + more, seed, failed=failed))
            rows.append(cell(source, victim, "amplified_clipped_0.1", 0.09, 39, seed))
    for victim in "AB":
        for pool, wrong in (("train", 1), ("P1", 2), ("test", 3)):
            rows.append(cell("noise", victim, "clean", 0.0, wrong, seed, pool))
        for level, wrong in ((0.06, 4), (0.1, 5), (1.0, 50)):
            rows.append(cell("noise", victim, "gaussian", level, wrong, seed, "test"))
    return rows


@pytest.fixture
def cells():
    return pd.DataFrame(all_cells())


def test_models(cells):
    table = make_table(cells, SPEC | {"kind": "models"}).values
    assert table.columns.tolist() == [
        *("model", "description", "train_error", "error_P1"),
        *("mean_min_distortion", "attacked", "failures"),
    ]
    assert table.iloc[0].tolist() == ["A'", "first", 0.01, 0.02, 0.05, 100, 2]
    assert table.iloc[1].tolist() == ["B", "second", 0.01, 0.02, 0.07, 100, 0]


def test_matrix(cells):
    table = make_table(cells, SPEC | {"kind": "matrix"}).values
    assert table["distorted_for"].tolist() == [
        *("A'", "B", "Gaussian noise, stddev=0.06", "Gaussian noise, stddev=0.1")
    ]
    assert table["A'"].tolist() == [0.98, 0.1, 0.04, 0.05]
    assert table["B"].tolist() == [0.1, 0.98, 0.04, 0.05]
    assert table["mean_distortion"].tolist() == [0.05, 0.07, 0.06, 0.1]
    assert table["failures"].tolist()[:2] == [2, 0]


def test_levels(cells):
    """Each size of distortion is followed by the noise of about that size, as in print."""
    table = make_table(cells, SPEC | {"kind": "levels"}).values
    assert table["distortion"].tolist() == [
        *("Distorted for A'", "Distorted for B", "Gaussian noise"),
        *("Distorted for A' amplified", "Distorted for B amplified", "Gaussian noise"),
    ]
    assert table["stddev"].tolist() == [0.05, 0.07, 0.06, 0.1, 0.1, 0.1]
    assert table["A'"].tolist() == [0.98, 0.1, 0.04, 0.4, 0.4, 0.05]


def test_both_right_is_another_denominator(cells):
    table = make_table(cells, SPEC | {"kind": "matrix"}, both_right=True).values
    assert table["B"].iloc[0] == 5 / 80


IMAGES = 300


@pytest.fixture
def seeds():
    """A function that returns the transfer table of some seeds, and the answers behind it."""

    def cells_and_answers(count, images=IMAGES):
        generator = np.random.default_rng(3)
        rows, tensors = [], {}
        for seed, (source, attack) in product(range(count), SETS):
            indices = np.flatnonzero(generator.random(images) < 0.95)
            right = generator.random((2, len(indices))) < 0.9
            fooled = []
            for (variant, rms), victim in product(VARIANTS[source == "noise"], "AB"):
                rate = 1 if victim == source and variant == "as_found" else 0.2 + 0.05 * seed
                fooled.append(generator.random(len(indices)) < rate)
                row = cell(source, victim, variant, rms, int(fooled[-1].sum()), seed, attack)
                both = right["AB".index(victim)]
                row |= {"n_attacked": len(indices), "n_both_right": int(both.sum())}
                row |= {"n_fooled_both_right": int((fooled[-1] & both).sum())}
                rows.append(row | {"error": fooled[-1].mean()})
            arrays = {"indices": indices, "right": np.packbits(right, axis=1)}
            arrays["fooled"] = np.packbits(fooled, axis=1)
            if source != "noise":
                sizes = generator.gamma(9, 0.05 / 9, len(indices))
                sizes[:seed] = np.nan  # failed
                arrays["rms"] = sizes
                for row in rows[-len(fooled) :]:
                    row |= {"n_failed": seed}
                    row |= {"rms": np.nanmean(sizes)} if row["variant"] == "as_found" else {}
            tensors |= {f"{source}/{seed}/{attack}/{name}": a for name, a in arrays.items()}
        cells = pd.DataFrame(rows)
        return cells, Answers(cells, tensors), tensors

    return cells_and_answers


SETS = (("A", "attack"), ("B", "attack"), *(("noise", pool) for pool in ("train", "P1", "test")))
VARIANTS = (
    (("as_found", None), ("amplified", 0.1)),
    (("clean", 0.0), ("gaussian", 0.06), ("gaussian", 0.1)),
)


def dense(tensors, kind, seed, row, source="A", attack="attack"):
    """Return what is known of each image of the base set, missing where it was not attacked."""
    indices = tensors[f"{source}/{seed}/{attack}/indices"]
    bits = np.unpackbits(tensors[f"{source}/{seed}/{attack}/{kind}"][row], count=len(indices))
    values = np.full(IMAGES, np.nan)
    values[indices] = bits
    return values


@pytest.mark.parametrize("both_right", [False, True])
def test_several_seeds_give_means_and_intervals_over_seeds_and_images(seeds, both_right):
    """By hand: the variance between seeds and that of what each image adds, t with 4 degrees."""
    cells, answers, tensors = seeds(5)
    spec = SPEC | {"kind": "matrix", "seeds": [0, 1, 2, 3, 4]}
    table = make_table(cells, spec, both_right, answers)
    fooled = np.stack([dense(tensors, "fooled", seed, 1) for seed in range(5)])
    if both_right:
        right = np.stack([dense(tensors, "right", seed, 1) for seed in range(5)])
        fooled[right != 1] = np.nan
    rates = np.nanmean(fooled, 1)
    assert table.values["B"].iloc[0] == pytest.approx(rates.mean())
    counts = (~np.isnan(fooled)).sum(1)
    shares = np.nansum((fooled - rates[:, None]) / counts[:, None], 0) / 5
    images = (~np.isnan(fooled)).any(0).sum()
    variance = rates.var(ddof=1) / 5 + (shares**2).sum() * images / (images - 1)
    half = (table.high["B"].iloc[0] - table.low["B"].iloc[0]) / 2
    assert half == pytest.approx(2.7764 * variance**0.5, rel=0.05)  # in log odds a bit shorter
    one_seed = make_table(cells[cells["seed"] == 0], SPEC | {"kind": "matrix"}, both_right)
    images_alone = (one_seed.high["B"].iloc[0] - one_seed.low["B"].iloc[0]) / 2
    assert half > 0.4 * images_alone  # images are not forgotten


def test_an_interval_is_the_same_whatever_else_is_in_the_table(seeds):
    cells, answers, tensors = seeds(4)
    spec = SPEC | {"kind": "matrix", "seeds": [0, 1, 2, 3]}
    whole = make_table(cells, spec, answers=answers)
    fewer = cells[cells["source"] != "B"]
    part = make_table(fewer, spec | {"sources": ["A"]}, answers=Answers(fewer, tensors))
    assert part.low["B"].iloc[0] == whole.low["B"].iloc[0]
    assert part.high["mean_distortion"].iloc[0] == whole.high["mean_distortion"].iloc[0]


def test_counts_are_told_for_each_seed_and_never_added(seeds):
    """As numbers they are means; as one reads them, how many of each seed."""
    cells, answers, _ = seeds(5)
    own = cells[(cells["source"] == "A") & (cells["variant"] == "as_found")]
    numbers = own.drop_duplicates("seed")["n_attacked"]
    spec = SPEC | {"kind": "matrix", "seeds": [0, 1, 2, 3, 4]}
    table = make_table(cells, spec, answers=answers)
    assert table.values["attacked"].iloc[0] == pytest.approx(numbers.mean())
    assert table.values["failures"].iloc[0] == 2
    shown = readable(table, table.values)
    words = f"5 seeds x {numbers.min()} to {numbers.max()} images"
    assert shown["attacked"].iloc[0] == [words] and shown["failures"].iloc[0] == ["0 to 4"]
    assert shown["attacked"].iloc[2] == [""]
    cells["n_attacked"] = 490
    table = make_table(cells, spec, answers=answers)
    assert readable(table, table.values)["attacked"].iloc[0] == ["5 seeds x 490 images"]
    assert "5 seeds x 490 images" in to_markdown(table, table.values, "table2", "notes")


def test_mean_distortions_have_intervals_with_several_seeds(seeds):
    cells, answers, _ = seeds(5)
    for kind, column in (("models", "mean_min_distortion"), ("levels", "stddev")):
        spec = SPEC | {"kind": kind, "seeds": [0, 1, 2, 3, 4]}
        table = make_table(cells, spec, answers=answers)
        low, high = table.low[column].iloc[0], table.high[column].iloc[0]
        assert low < table.values[column].iloc[0] < high
        _, bounds = readable(table, table.values)[column.replace("_", " ")].iloc[0]
        assert bounds == f"[{low:.4g}, {high:.4g}]"


def test_bounds_in_the_csv_file_of_several_seeds(seeds):
    """Behind each number that has them; with one seed they are those of transfer.csv."""
    cells, answers, _ = seeds(3)
    table = make_table(cells, SPEC | {"kind": "models", "seeds": [0, 1, 2]}, answers=answers)
    assert with_bounds(table, table.values).columns.tolist() == [
        *("model", "description", "train_error", "train_error_low", "train_error_high"),
        *("error_P1", "error_P1_low", "error_P1_high", "mean_min_distortion"),
        *("mean_min_distortion_low", "mean_min_distortion_high", "attacked", "failures"),
    ]
    one = make_table(cells[cells["seed"] == 0], SPEC | {"kind": "models"})
    assert with_bounds(one, one.values) is one.values


def test_two_seeds_have_no_intervals_and_say_so(seeds):
    cells, answers, _ = seeds(2)
    spec = SPEC | {"kind": "matrix", "seeds": [0, 1]}
    table = make_table(cells, spec, answers=answers)
    assert "[" not in to_markdown(table, table.values, "table2", notes := caption(spec, False))
    assert "means over 2 seeds, too few for intervals." in notes


def test_printed_numbers_stand_beside_the_same_row_and_column(cells):
    """Rows of noise are told apart by their level."""
    table = make_table(cells, SPEC | {"kind": "levels"}).values
    printed = pd.DataFrame(
        [
            {"distortion": "Distorted for B", "stddev": 0.08, "A'": 0.11},
            {"distortion": "Gaussian noise", "stddev": 0.1, "A'": 0.12},
            {"distortion": "Gaussian noise", "stddev": 0.06, "A'": 0.13},
        ]
    )
    beside = with_printed(table, printed)
    columns = beside.columns.tolist()
    assert columns[columns.index("A'") + 1] == "A'_printed"
    assert "B_printed" not in columns
    assert beside["A'_printed"].fillna(-1).tolist() == [-1, 0.11, 0.13, -1, -1, 0.12]
    assert beside["stddev_printed"].fillna(-1).tolist() == [-1, 0.08, 0.06, -1, -1, 0.1]


def test_markdown_and_latex(cells):
    spec = SPEC | {"kind": "matrix"}
    table = make_table(cells, spec)
    values = with_printed(table.values, pd.DataFrame([{"distorted_for": "B", "A'": 0.117}]))
    notes = caption(spec, printed=True)
    text = to_markdown(table, values, "table2", notes)
    assert "10.00 % [5.52, 17.44] (print 11.70 %)" in text
    assert "0.05" in text
    for part in ("targets: random", "seeds: 0", "images of test", "Wilson", "MNIST"):
        assert part in notes
    latex = to_latex(table, values, "table2", notes)
    assert "10.00 (11.70)" in latex and r"{\scriptsize {[}5.52, 17.44]}" in latex
    assert "Rates are in per cent." in latex
    assert r"95 \% Wilson" in latex
    assert "\\begin{tabular}{@{}lrrrrr@{}}" in latex


def test_a_label_of_any_characters_breaks_no_table(cells):
    """In Markdown a bar would end a cell; LaTeX has ten special characters."""
    spec = SPEC | {"kind": "matrix", "labels": {"A": r"50%_\|&#${}^~", "B": "B"}}
    table = make_table(cells, spec)
    lines = to_markdown(table, table.values, "table2", "notes").splitlines()[4:]
    assert {line.replace(r"\\", "").replace(r"\|", "").count("|") for line in lines} == {7}
    latex = to_latex(table, table.values, "table2", "{notes}")
    escaped = r"50\%\_\textbackslash{}\textbar{}\&\#\$\{\}\textasciicircum{}\textasciitilde{}"
    assert latex.count(escaped) == 2
    assert r"\caption{\{notes\} Rates" in latex


def test_latex_names_the_characters_that_ask_for_another_engine(cells):
    table = make_table(cells, SPEC | {"kind": "matrix", "labels": {"A": "\u03a3 \u2211", "B": "B"}})
    assert "pdfLaTeX lacks one of: \u03a3\u2211\n" in to_latex(table, table.values, "t", "notes")
    table = make_table(cells, SPEC | {"kind": "matrix"})
    assert "pdfLaTeX" not in to_latex(table, table.values, "t", "notes")


@pytest.mark.parametrize("given", ["", " ", "."])
def test_caption_that_is_missing(given):
    assert caption(SPEC | {"caption": given}, False).startswith("MNIST; targets: random")


def test_page(cells):
    """Bounds and printed numbers stand in the same cell; texts stay texts."""
    spec = SPEC | {"kind": "matrix"}
    table = make_table(cells, spec)
    values = with_printed(table.values, pd.DataFrame([{"distorted_for": "B", "A'": 0.117}]))
    html = page([("a <title>", "this & that", readable(table, values))])
    cell = "<td>10.00 %<small>[5.52, 17.44]</small><small>(print 11.70 %)</small></td>"
    assert html.count(cell) == 1
    assert html.count("<tr>") == 1 + len(values)
    assert "<h1>a &lt;title&gt;</h1>" in html and "<p>this &amp; that</p>" in html


def test_numbers_above_one_and_counts(cells):
    cells.loc[cells["variant"] == "amplified", "rms"] = 1.5
    cells["n_attacked"] = 1_234_567
    table = make_table(cells, SPEC | {"kind": "levels", "amplify": [1.5]})
    assert "| 1.5 " in to_markdown(table, table.values, "table", "notes")
    assert "1234567" in table.values.to_csv(float_format="%.6g")


def test_printed_amplified_rows_are_those_of_the_level(cells):
    printed = pd.DataFrame([{"distortion": "Distorted for B amplified", "stddev": 0.1, "B": 0.9}])
    for levels in ([0.1], [0.1, 0.2]):
        more = cells[cells["variant"] == "amplified"].assign(rms=0.2)
        both = pd.concat([cells, more])
        table = make_table(both, SPEC | {"kind": "levels", "amplify": levels}).values
        beside = with_printed(table, printed).set_index("distortion")["B_printed"]
        assert beside.count() == 1
        assert beside.dropna().index[0].startswith("Distorted for B amplified")
    table = make_table(both, SPEC | {"kind": "levels", "amplify": [0.2]}).values
    assert with_printed(table, printed)["B_printed"].count() == 0


def test_labels_of_models_are_shown_as_they_are(cells):
    spec = SPEC | {"kind": "matrix", "labels": {"A": "net_a", "B": "net a"}}
    shown = readable(table := make_table(cells, spec), table.values)
    assert list(shown) == ["distorted for", "net_a", "net a", "mean distortion", *COUNTS]


def test_captions_tell_what_stands_in_brackets():
    assert "95 % Wilson intervals over images in brackets." in caption(SPEC, False)
    several = caption(SPEC | {"seeds": [0, 1, 2, 3, 4]}, False)
    assert "means over 5 seeds; in brackets 95 % intervals over seeds and images" in several
    assert "t with 4 degrees of freedom" in several


# On paper -----------------------------------------------------------------------------------------


def on_paper(count, seeds, printed):
    """Return a matrix in LaTeX with this many models, each its own source."""
    names = [f"N{number}-100-100-10" for number in range(count)]
    spec = SPEC | {"kind": "matrix", "sources": names, "victims": names, "seeds": list(seeds)}
    spec["labels"] = {name: name if len(name) % 2 else f"Network {name}" for name in names}
    rows = [
        cell(source, victim, "as_found", 0.056891, 100 if source == victim else 31, seed)
        | {"n_attacked": 100, "n_both_right": 98}
        for seed, source, victim in product(seeds, names, names)
    ]
    rows += [
        cell("noise", victim, "gaussian", level, 7, seed, "test")
        for seed, victim, level in product(seeds, names, (0.06, 0.1))
    ]
    cells, tensors = pd.DataFrame(rows), {}
    for (source, seed, attack), part in cells.groupby(["source", "seed", "attack"]):
        bits = [np.arange(100) < fooled for fooled in part["n_fooled"]]
        arrays = {"indices": np.arange(100), "fooled": np.packbits(bits, axis=1)}
        arrays |= {"right": np.packbits(bits[:count], axis=1), "rms": np.full(100, 0.056891)}
        tensors |= {f"{source}/{seed}/{attack}/{name}": array for name, array in arrays.items()}
    table = make_table(cells, spec, answers=Answers(cells, tensors))
    values = table.values
    if printed:
        numbers = values.drop(columns=[*COUNTS])
        values = with_printed(values, numbers)
    return to_latex(table, values, "table2", caption(spec, printed))


@pytest.mark.parametrize("seeds", [range(1), range(5)], ids=["one", "five"])
@pytest.mark.parametrize(("count", "printed"), [(3, True), (6, True), (10, False), (30, False)])
def test_a_table_is_no_wider_than_the_text(tmp_path, seeds, count, printed):
    """Of an article of 10 pt; pdflatex says what is too wide or too high."""
    if which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    latex = on_paper(count, seeds, printed)
    # Each victim has its column, and each row its intervals in every block of columns.
    assert all(f"N{number}-100-" in latex for number in range(count))
    assert latex.count("[") > count**2
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "table.tex").write_text(f"{document}Text.\n{latex}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "table.log").read_text(errors="replace")
    assert not re.search(r"Overfull|too large for page", log), log


def test_a_narrow_table_is_in_one_piece(cells):
    for kind in ("models", "matrix", "levels"):
        table = make_table(cells, SPEC | {"kind": kind})
        latex = to_latex(table, table.values, "table", "notes")
        assert latex.count("\\begin{tabular}") == latex.count("\\begin{table}") == 1
        assert "\\footnotesize" in latex
