"""The benchmark runs on any study with trained models."""

import subprocess
import sys

import pandas as pd


def test_benchmark_makes_table_and_plot(finished, tmp_path):
    """On two small models and few images; what it says of our engine holds."""
    command = ["benchmarks/attacks.py", str(finished.results), str(tmp_path / "out")]
    command += ["--networks", "A", "B", "--images", "20", "--repeats", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *command], cwd=finished.path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out/attacks-cpu.csv")
    assert set(table["network"]) == {"A", "B"}
    ours = table[table["attack"] == "blindspots lbfgs"]
    assert (ours["success"] == 1).all() and (ours["ms an image"] > 0).all()
    best = table[table["attack"] == "blindspots best_of"]
    assert (best["/ lbfgs, same images"] <= 1 + 1e-6).all()
    scipy = table[table["attack"] == "scipy L-BFGS-B"]
    assert (scipy["success"] == 1).all() and (scipy["/ lbfgs, same images"] > 0.9).all()
    for name in ("attacks-cpu.md", "attacks-cpu.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 500


def test_study_without_models_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "benchmarks/attacks.py", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: no models of softmax1" in done.stderr
    assert "Traceback" not in done.stderr
