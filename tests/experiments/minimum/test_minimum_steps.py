"""The steps: a set of the first images that are right, its table, and its figure."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from blindspots.artifacts import (
    canonical_json,
    job_digest,
    read_tensors,
    write_record,
    write_tensors,
)
from blindspots.experiments.minimum import plot_minimum, tabulate_minimum
from blindspots.models.networks import build_network
from blindspots.steps import generate_adversarial_set
from blindspots.steps.job import Job
from blindspots.steps.loading import to_arrays
from blindspots.steps.weights import save_network

SHAPE, UP, MOST = (1, 6, 6), "0" * 64, 7
QUANTITY = "AlexNet mean distortion over 64 examples"


def job(upstream, **spec):
    spec |= {"device": "cpu", "upstream": upstream}
    return Job(spec, "code", job_digest(canonical_json(spec), "code"), 1)


@pytest.fixture
def made(tmp_path):
    """Images, a network that is right on two of three, and the set of the first ones."""
    levels = torch.randint(
        0, 256, (30, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    architecture = {"kind": "mlp", "widths": [12], "activation": "relu"}
    network = build_network(architecture, SHAPE, 4, seed=0).eval()
    labels = network(levels.float() / 255).argmax(1)
    labels[::3] = (labels[::3] + 1) % 4
    facts = {"maximum": 255, "classes": 4, "shape": list(SHAPE), "names": ["a", "b", "$", "d"]}
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("data", "model", "adversarial")}
    arrays = to_arrays({"test_images": levels, "test_labels": labels})
    write_tensors(paths["data"], arrays, {"job": UP, "facts": facts})
    about = {"architecture": architecture, "shape": list(SHAPE), "classes": 4}
    save_network(paths["model"], network, {"job": UP, "network": about})
    attack = {"method": "ddn", "targets": "untargeted", "options": {"steps": 20}, "most": MOST}
    told = job({"data": UP, "model": UP}, attack=attack, images={"of": "test"}, seed=0, chunk=3)
    files = SimpleNamespace(**paths)
    generate_adversarial_set.main(told, files)
    return told, files


def test_the_first_images_that_are_right_are_attacked(made):
    told, files = made
    found, provenance = read_tensors(files.adversarial, told.digest)
    assert found["indices"].tolist() == [1, 2, 4, 5, 7, 8, 10]
    assert provenance["left_out"] == 10


def figure_job(told):
    return job(
        {"data": UP, "set": told.digest},
        label="Net",
        targets="untargeted",
        base="test",
        rows=2,
        printed=["digest", QUANTITY],
    )


def test_table_and_figure_of_a_set(made, reference, tmp_path):
    told, files = made
    printed = reference / "szegedy2013-other-figures.csv"
    own = {"source": "net", "victim": "net", "seed": 0, "victim_seed": 0}
    rows = [
        {**own, "variant": "as_found", "n_fooled": 6, "target_hit": 6},
        {**own, "variant": "stored_png", "n_fooled": 5, "target_hit": 1},
        {**own, "victim": "other", "variant": "stored_png", "n_fooled": 7, "target_hit": 7},
    ]
    row = tmp_path / "row.json"
    write_record(row, {"job": UP, "rows": rows})
    about = {"source": "net", "seed": 0, "attack": "x", "targets": "untargeted", "pool": "test"}
    shown = job(
        {"sets_and_rows": [told.digest, UP]},
        about=[about],
        labels={"net": "Net"},
        dataset="levels",
        stored="stored_png",
        printed=["digest", QUANTITY],
    )
    outputs = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "md", "html")}
    paths = SimpleNamespace(sets_and_rows=[files.adversarial, row], printed=printed, **outputs)
    tabulate_minimum.main(shown, paths)
    table = pd.read_csv(outputs["csv"])
    found, _ = read_tensors(files.adversarial, told.digest)
    assert table["n"].item() == MOST and table["left_out"].item() == 10
    assert table["survives_8bit"].item() == pytest.approx(5 / MOST, rel=1e-5)
    assert table["rms"].item() == pytest.approx(np.nanmean(found["rms"]), rel=1e-5)
    assert "0.0065" in outputs["md"].read_text()

    drawn = SimpleNamespace(figure=tmp_path / "5.png", pdf=tmp_path / "5.pdf")
    files = SimpleNamespace(data=files.data, set=files.adversarial, printed=printed, **vars(drawn))
    plot_minimum.main(figure_job(told), files)
    assert drawn.figure.stat().st_size > 1000
    before = drawn.figure.read_bytes()
    plot_minimum.main(figure_job(told), files)
    assert drawn.figure.read_bytes() == before
    assert json.loads((tmp_path / "5.png.json").read_text())["job"]


def test_a_set_without_successes_has_an_empty_figure(made, reference, tmp_path):
    told, files = made
    found, _ = read_tensors(files.adversarial, told.digest)
    found["success"][:] = False
    write_tensors(files.adversarial, found, {"job": UP})
    files = SimpleNamespace(
        data=files.data,
        set=files.adversarial,
        printed=reference / "szegedy2013-other-figures.csv",
        figure=tmp_path / "5.png",
        pdf=tmp_path / "5.pdf",
    )
    plot_minimum.main(figure_job(SimpleNamespace(digest=UP)), files)
    assert files.figure.exists()
