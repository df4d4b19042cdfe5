"""Figures as files: the same bytes every time, without dates, with text that can be searched."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from blindspots.artifacts import check_sidecar, file_digest, read_record, sidecar_path
from blindspots.errors import UserError
from blindspots.experiments.transfer.figures import distortion_distributions
from blindspots.experiments.transfer.grids import Pair, example_grid, page_of
from blindspots.steps.plotting import save_figure
from blindspots.summary.style import house_style

JOB = SimpleNamespace(provenance=lambda: {"job": "j", "spec": {}, "code": "c"})
FORMATS = {"distortions": ("svg", "pdf"), "grid": ("png", "pdf")}


def save(folder, kind):
    """Write a figure in both of its formats and return their paths."""
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    paths = [folder / f"figure.{name}" for name in FORMATS[kind]]
    with house_style():
        if kind == "grid":
            page = page_of({"shape": (1, 8, 8), "classes": 2, "names": ["$x$", "→"]}, answers=True)
            pair = Pair(ramp[None], ramp.T[None], 0, 1, 0.1)
            figure = example_grid(page, [[pair], []], "Label $x$")
        else:
            runs = {"Label $x$": ramp[0], "\u03a3": ramp[1]}
            runs = {name: [(0, np.arange(len(rms)), rms)] for name, rms in runs.items()}
            figure = distortion_distributions(runs, "title")
        save_figure(figure, paths, JOB)
    return paths


@pytest.mark.parametrize("kind", FORMATS)
def test_same_bytes_in_another_process(tmp_path, kind):
    """Another seed of Python's hashes, another day, a setting of the user's for dates."""
    other = tmp_path / "other"
    other.mkdir()
    code = f"import sys, pathlib, test_plotting as t; t.save(pathlib.Path(sys.argv[1]), {kind!r})"
    path = os.pathsep.join(filter(None, sys.path))
    environment = {"PYTHONPATH": path, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1000000000"}
    command = [sys.executable, "-c", code, str(other)]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    for written in save(tmp_path, kind):
        assert written.read_bytes() == (other / written.name).read_bytes()


@pytest.mark.parametrize("kind", FORMATS)
def test_pdf_embeds_its_fonts_and_no_date(tmp_path, kind):
    content = save(tmp_path, kind)[1].read_bytes()
    assert b"/CIDFontType2" in content and b"/FontFile2" in content  # TrueType
    assert b"/ToUnicode" in content  # so that it can be searched
    assert b"/Type3" not in content and b"Date" not in content


def test_sidecar_answers_for_both_files(tmp_path):
    svg, pdf = save(tmp_path, "distortions")
    content = read_record(sidecar_path(svg))["content"]
    assert content == {path.name: file_digest(path) for path in (svg, pdf)}
    svg.write_bytes(svg.read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"figure\.svg was changed after it was made"):
        check_sidecar(svg, "j")
