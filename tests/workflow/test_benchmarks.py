"""The benchmark runs on any study with trained models."""

import shlex
import subprocess
import sys

import pandas as pd
from project import ROOT, jobs_of


def test_benchmark_makes_table_and_plot(finished, tmp_path):
    """On two small models and few images; what it says of our engine holds."""
    command = ["benchmarks/attacks.py", str(finished.results), str(tmp_path / "out")]
    command += ["--networks", "A", "B", "--images", "20", "--repeats", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *command], cwd=finished.path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out/attacks-cpu.csv", index_col=["attack", "network"])
    ours, best = table.loc["blindspots lbfgs"], table.loc["blindspots best_of"]
    scipy = table.loc["scipy L-BFGS-B"]
    for part in (ours, best, scipy):
        assert list(part.index) == ["A", "B"]
        assert (part["success"] == 1).all() and (part["ms an image"] > 0).all()
    ratio = "/ lbfgs, same images"
    assert (best[ratio] <= 1 + 1e-6).all()
    assert (scipy[ratio] >= best[ratio]).all()
    # One problem, one minimum; on B, of eight units, two of the 20 images are led to another one.
    assert scipy[ratio]["A"] >= 0.999
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


def test_make_benchmark_trains_what_is_measured(fresh):
    """The command that `make benchmark` gives to Snakemake, on the study that it takes."""
    fresh.config.write_text((ROOT / "config.yaml").read_text())
    (fresh.path / "installed").touch()
    told = subprocess.run(  # below another make, too, which would have it print directories
        ["make", "--dry-run", "--no-print-directory", "benchmark", "INSTALLED=installed"],
        cwd=fresh.path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    first, measured, _ = (shlex.split(line) for line in told.splitlines())
    assert first[0] == "snakemake" and measured[1] == "benchmarks/attacks.py"
    trained = {"softmax1", "softmax2", "softmax3", "M1", "N200-200-10", "conv"}
    jobs = jobs_of(fresh.make(*first[1:], "--dry-run"))
    assert {job for job in jobs if job.startswith("train")} == {
        f"train_model {m} 0" for m in trained
    }
