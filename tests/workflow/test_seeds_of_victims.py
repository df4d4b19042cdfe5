"""The tiny study of two seeds, whose sets are also shown to the same networks of the other seed."""

import csv
from itertools import product


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def pairs(config, **entry):
    config["seeds"] = [0, 1]
    config["experiments"]["pairs"] |= entry


def test_other_seeds_of_the_victims(finished):
    finished.edit_config(pairs)
    finished.make()
    same = rows_of(finished.results / "transfer.csv")
    assert all(row["seed"] == row["victim_seed"] for row in same)

    finished.edit_config(lambda config: pairs(config, victim_seeds="all"))
    planned = finished.planned()
    rows = {f"evaluate_transfer {m} {s} few-random" for m, s in product("ABC", "01")}
    shown = {"collect_transfer", "tabulate summary", "tabulate transfer"}
    figures = {"plot_transfer pairs", "plot_error_curves pairs"}
    assert planned == rows | shown | figures
    finished.make()
    log = finished.results / "logs/evaluate_transfer/B-seed0-few-random.log"
    assert "12 cells, 6 of them computed now" in log.read_text()  # 2 variants, 3 victims

    every = rows_of(finished.results / "transfer.csv")
    assert [row for row in every if row["seed"] == row["victim_seed"]] == same
    found = {
        (r["victim_seed"], r["seed"]): float(r["error"])
        for r in every
        if r["source"] == r["victim"] == "B" and r["variant"] == "as_found"
    }
    assert set(found) == {(a, b) for a, b in product("01", "01")}
    # A network of another seed is another network.
    assert max(found["0", "1"], found["1", "0"]) < 0.9 < min(found["0", "0"], found["1", "1"])
    table = rows_of(finished.results / "tables/transfer.csv")
    column = next(r for r in table if r["distortion"] == "Distorted for B")["B"]
    assert abs(float(column) - sum(found.values()) / 4) < 1e-6
