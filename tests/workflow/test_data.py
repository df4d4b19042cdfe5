"""The workflow on MNIST itself, in small, and with every kind of architecture."""

import csv

import pytest


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.mnist
def test_mnist_in_small(mnist_in_small):
    """MNIST from files, with printed numbers beside the measured ones."""
    row = rows_of(mnist_in_small.results / "tables/summary.csv")[0]
    assert float(row["test_error_printed"]) == 0.074
    assert 0.08 < float(row["test_error"]) < 0.3
    assert row["failures"] == "0"


def test_every_kind_of_architecture(fresh):
    """A conv net by Adam, a sparse code, tanh and relu nets: trained, attacked, evaluated."""
    kinds = {
        "A": {
            "architecture": "conv",
            "channels": [4, 8],
            "units": 16,
            "training": {"optimizer": "adam", "epochs": 8, "learning_rate": 0.01},
        },
        "B": {
            "architecture": "autoencoder",
            "units": 30,
            "pretraining": {"max_evaluations": 60},
        },
        "C": {
            "architecture": "mlp",
            "widths": [20, 10],
            "activation": "relu",
            "training": {"optimizer": "sgd", "epochs": 10, "learning_rate": 0.1},
        },
        "D": {"architecture": "mlp", "widths": [20], "activation": "tanh"},
    }

    def replace(config):
        common = {"split": "train", "weight_decay": 1.0e-4}
        config["models"] = {name: {**kind, **common} for name, kind in kinds.items()}
        config["experiments"]["pairs"]["sources"] = list(kinds)

    fresh.edit_config(replace)
    fresh.make("results/tiny/tables/summary.csv")
    for row in rows_of(fresh.results / "tables/summary.csv"):
        assert float(row["test_error"]) < 0.3, row
        assert row["failures"] == "0", row
    own = [r for r in rows_of(fresh.results / "transfer.csv") if r["source"] == r["victim"]]
    assert all(r["error"] == "1.0" for r in own if r["variant"] == "as_found")
