"""The workflow on files of data sets, and with every kind of architecture."""

import csv
import os
from struct import pack

import pytest

from blindspots.data.catalogue import CATALOGUE, IDX_FILES


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.mnist
def test_mnist_in_small(mnist_in_small):
    """MNIST from files, with printed numbers beside the measured ones."""
    row = rows_of(mnist_in_small.results / "tables/summary.csv")[0]
    assert float(row["test_error_printed"]) == 0.074
    assert 0.08 < float(row["test_error"]) < 0.3
    assert row["failures"] == "0"


def write_fashion(root, label):
    """Write Fashion-MNIST's four files: grey images, all with one label."""
    raw = root / "FashionMNIST/raw"
    raw.mkdir(parents=True, exist_ok=True)
    for (base, kind), file in IDX_FILES.items():
        size = CATALOGUE["fashion-mnist"].sizes[base]
        if kind == "images":
            content = pack(">4I", 2051, size, 28, 28) + bytes([128]) * (size * 28 * 28)
        else:
            content = pack(">2I", 2049, size) + bytes([label]) * size
        path = raw / file
        date = path.stat().st_mtime_ns if path.exists() else 10**18
        path.write_bytes(content)
        os.utime(path, ns=(date, date))


def test_content_of_the_files_counts_and_not_their_place(fresh, tmp_path):
    """Other files of the same names, sizes and dates are other data; a copy elsewhere is not."""
    fresh.edit_config(lambda c: c.update(dataset="fashion-mnist", download=False, data_root="~/in"))
    data = "results/tiny/data.safetensors"
    home = {"HOME": str(tmp_path / "home"), "BLINDSPOTS_DATA": ""}
    write_fashion(tmp_path / "home/in", label=3)
    fresh.make(data, **home)
    write_fashion(tmp_path / "home/copy", label=3)
    said = fresh.make(data, **{**home, "BLINDSPOTS_DATA": "~/copy"})
    assert "Nothing to be done" in said
    write_fashion(tmp_path / "home/in", label=4)
    assert "Nothing to be done" not in fresh.make(data, **home)
    assert "Nothing to be done" in fresh.make(data, **home)


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
