"""The digits study from end to end, and the embedded conveniences around it."""

import csv
import re
import subprocess

import pytest
from project import ROOT


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_second_run_has_nothing_to_do(digits):
    assert "Nothing to be done" in digits.make("--configfile", "studies/digits.yaml")


def test_plan_is_told_in_words(digits):
    """By the README's command: before and after an edit, of this study and of one not yet run."""

    def plan(*study):
        done = subprocess.run(
            ["make", "--no-print-directory", "plan", *study],
            cwd=digits.path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert plan() == "Nothing will run: every artifact of the study is up to date.\n"
    study = digits.path / "studies/digits.yaml"
    text = study.read_text()
    study.write_text(f"{text}models: {{M1: {{label: Net}}}}\n")
    try:
        said = plan()
    finally:
        study.write_text(text)
    assert said.startswith("5 jobs will run; all else is up to date.\n")
    assert '\n  table3, table4: labels.M1 "M1" -> "Net"\n' in said
    assert "train model (10)" not in said and "train model (9)" in plan("STUDY=mnist")


def test_every_cell_of_the_transfer_table_adds_up(digits):
    rows = rows_of(digits.path / "results/digits/transfer.csv")
    keys = {
        (r["source"], r["victim"], r["seed"], r["attack"], r["variant"], r["rms"]) for r in rows
    }
    assert len(keys) == len(rows)
    for row in rows:
        fooled, attacked = int(row["n_fooled"]), int(row["n_attacked"])
        assert float(row["error"]) == pytest.approx(fooled / attacked)
        assert float(row["low"]) <= float(row["error"]) <= float(row["high"])
        assert int(row["n_fooled_both_right"]) <= min(fooled, int(row["n_both_right"]))
        if row["source"] != "noise":
            assert int(row["same_wrong"]) + int(row["other_wrong"]) == fooled
            assert int(row["target_hit"]) <= fooled


def test_every_success_fools_its_own_source(digits):
    rows = rows_of(digits.path / "results/digits/transfer.csv")
    own = [r for r in rows if r["source"] == r["victim"] and r["variant"] == "as_found"]
    assert len(own) == 9
    for row in own:
        assert int(row["n_fooled"]) == int(row["n_attacked"]) - int(row["n_failed"])
        assert int(row["n_failed"]) <= 0.001 * int(row["n_attacked"])
        assert row["same_wrong"] == row["target_hit"] == row["n_fooled"]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_tables_have_the_columns_of_the_printed_ones(digits, number):
    table = rows_of(digits.path / f"results/digits/tables/table{number}.csv")
    (reference,) = (ROOT / "workflow/reference").glob(f"*-table{number}.csv")
    printed = rows_of(reference)
    assert [c for c in table[0] if c in printed[0]] == list(printed[0])
    # Printed numbers stand only beside numbers of the data set that they were measured on.
    assert not [column for column in table[0] if column.endswith("_printed")]
    assert {r[next(iter(r))] for r in printed} <= {r[next(iter(r))] for r in table}
    folder = digits.path / "results/digits/tables"
    assert "Wilson" in (folder / f"table{number}.md").read_text()
    assert r"\begin{tabular}" in (folder / f"table{number}.tex").read_text()


def test_disjoint_halves_transfer_more_than_noise(digits):
    """The finding of the paper, on this small data set."""
    rows = rows_of(digits.path / "results/digits/tables/table4.csv")
    amplified = next(r for r in rows if r["distortion"] == "Distorted for M1 amplified")
    noise = next(r for r in rows if r["distortion"] == "Gaussian noise" and r["stddev"] == "0.2")
    assert float(amplified["M2"]) > 3 * float(noise["M2"])


def test_artifacts_hold_no_dates(digits):
    date = re.compile(rb"<dc:date>|20\d\d-\d\d-\d\d|CreationDate|ModDate")
    for path in (digits.path / "results/digits/figures").rglob("*.*"):
        assert not date.search(path.read_bytes()), path


def test_report_is_one_page_without_a_network(digits):
    page = (digits.path / "results/digits/report.html").read_text()
    for name in ("table1.html", "table4.html", "transfer.csv", "cross_training_set"):
        assert name in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="https?://', page)
