"""The published tables, from a transfer table made by hand."""

import pandas as pd
import pytest

from blindspots.evaluation.fields import FIELDS
from blindspots.summary.page import page
from blindspots.summary.tables import (
    COUNTS,
    caption,
    make_table,
    readable,
    to_latex,
    to_markdown,
    with_printed,
)

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
    "dataset": "MNIST",
    "caption": "A caption.",
    "amplify": [0.1],
    "noise": [0.06, 0.1],
}


def cell(source, victim, variant, rms, fooled, seed=0, attack="attack", both=80, failed=0):
    row = dict.fromkeys(FIELDS)
    row |= {"source": source, "victim": victim, "seed": seed, "attack": attack}
    row |= {"variant": variant, "rms": rms, "n_attacked": 100, "n_failed": failed}
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


def test_several_seeds_give_means_and_ranges():
    cells = pd.DataFrame([*all_cells(), *all_cells(seed=1, more=20)])
    table = make_table(cells, SPEC | {"kind": "matrix", "seeds": [0, 1]})
    assert table.values["B"].iloc[0] == pytest.approx(0.2)
    assert table.low["B"].iloc[0] == pytest.approx(0.1)
    assert table.high["B"].iloc[0] == pytest.approx(0.3)
    assert table.values["attacked"].iloc[0] == 200
    assert table.values["failures"].iloc[0] == 4


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
    assert r"10.00 \% (11.70 \%)" in latex
    assert r"95 \% Wilson" in latex
    assert "\\begin{tabular}{lrrrrr}" in latex


def test_a_label_of_any_characters_breaks_no_table(cells):
    """In Markdown a bar would end a cell; LaTeX has ten special characters."""
    spec = SPEC | {"kind": "matrix", "labels": {"A": r"50%_\|&#${}^~", "B": "B"}}
    table = make_table(cells, spec)
    lines = to_markdown(table, table.values, "table2", "notes").splitlines()[4:]
    assert {line.replace(r"\\", "").replace(r"\|", "").count("|") for line in lines} == {7}
    latex = to_latex(table, table.values, "table2", "{notes}")
    escaped = r"50\%\_\textbackslash{}\textbar{}\&\#\$\{\}\textasciicircum{}\textasciitilde{}"
    assert latex.count(escaped) == 2
    assert r"\caption{\{notes\}}" in latex


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


def test_latex_promises_no_bounds(cells):
    assert "Wilson" in caption(SPEC, False) and "Wilson" not in caption(SPEC, False, bounds=False)
    several = SPEC | {"seeds": [0, 1]}
    assert "Lowest and highest seed in brackets." in caption(several, False)
    assert caption(several, False, bounds=False).endswith("Rates are means over seeds.")
