"""The table, the figures and the steps of kind units, on small networks."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from blindspots.artifacts import canonical_json, job_digest, read_tensors, write_tensors
from blindspots.data.sources import digits as embedded
from blindspots.experiments.units import measure_units as step
from blindspots.experiments.units import plot_top_images, plot_units, tabulate_units
from blindspots.experiments.units.fields import FIELDS, TOP
from blindspots.experiments.units.figures import unit_figure
from blindspots.experiments.units.grids import GAP, grid_figure, mosaic
from blindspots.experiments.units.tables import unit_tables
from blindspots.models.networks import build_network
from blindspots.randomness import stable_seed
from blindspots.steps import train_model
from blindspots.steps.job import Job
from blindspots.steps.untrained import untrained
from blindspots.steps.weights import load_network
from blindspots.summary.style import house_style

COMPUTE = {"device": "cpu", "threads": 1}
IMAGES = {"of": "test"}


def job(**spec):
    """Return the job of a step."""
    return Job(spec, "code", job_digest(canonical_json(spec), "code"), 1)


def artifact(path):
    """Return the job recorded in a file."""
    return read_tensors(path)[1]["job"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two networks that learn nothing from the digits, and the units of both; by steps alone."""
    folder = tmp_path_factory.mktemp("units")
    data = embedded.load()
    facts = {"shape": [1, 8, 8], "classes": 10, "maximum": data.facts.maximum}
    content = {f"{base}_images": data.images[base][:200] for base in ("train", "test")}
    content |= {f"{base}_labels": data.labels[base][:200] for base in ("train", "test")}
    write_tensors(folder / "data", content, {"job": "data", "facts": facts})
    training = {"optimizer": "sgd", "momentum": 0.0, "epochs": 1, "batch_size": 200}
    training |= {"learning_rate": 1e-30, "weight_decay": [0.0]}
    for seed in (0, 1):
        train_model.main(
            job(
                architecture={"kind": "mlp", "widths": [12, 9], "activation": "relu"},
                training={**training, "weight_decay_convention": "half_l2"},
                split={"of": "train"},
                seed=seed,
                upstream={"data": "data"},
                **COMPUTE,
            ),
            SimpleNamespace(data=folder / "data", model=folder / f"model{seed}"),
        )
    for seed in (0, 1):
        tested, other = folder / f"model{seed}", folder / f"model{1 - seed}"
        upstream = {"data": "data", "model": artifact(tested), "reference": artifact(other)}
        files = {"data": folder / "data", "model": tested, "reference": other}
        step.main(
            job(images=IMAGES, bases=19, seed=seed, chunk=64, upstream=upstream, **COMPUTE),
            SimpleNamespace(**files, units=folder / f"units{seed}"),
        )
    return folder


@pytest.fixture(scope="module")
def table(made):
    parts = [made / "units0", made / "units1"]
    about = [{"network": "A | $", "seed": seed} for seed in (0, 1)]
    upstream = {"parts": [artifact(path) for path in parts]}
    out = {suffix: made / f"table.{suffix}" for suffix in ("csv", "md", "html")}
    tabulate_units.main(job(about=about, upstream=upstream), SimpleNamespace(parts=parts, **out))
    return pd.read_csv(out["csv"])


def test_columns_are_as_agreed(table):
    agreed = ["network", "seed", "layer", "family", "statistic", "value"]
    agreed += ["null_mean", "null_sd", "z", "p", "bases"]
    assert list(table.columns) == list(FIELDS)
    assert list(table.columns[: len(agreed)]) == agreed


def test_every_layer_has_every_family(table):
    assert set(table["layer"]) == {"relu 1", "relu 2", "logits", "input"}
    assert table["seed"].unique().tolist() == [0, 1]
    families = set(table[table["layer"] == "relu 1"]["family"])
    assert families == {"units", "random", "pca", "whitened", "untrained"}


def test_a_network_that_learnt_nothing_is_the_untrained_one(table):
    """Its weights are those that its training began with, drawn by the model's own seed."""
    columns = ["value", "null_mean", "null_sd", "z", "p"]
    keys = ["seed", "layer", "statistic"]
    hidden = table[table["layer"].str.startswith("relu")]
    by_family = {family: rows.set_index(keys) for family, rows in hidden.groupby("family")}
    trained, before = by_family["units"], by_family["untrained"]
    # The same directions in the same space, but for the bases that are drawn.
    pd.testing.assert_series_equal(trained["value"], before["value"])
    assert not trained[columns].equals(before[columns])


def test_weights_from_a_file_have_an_untrained_network_too():
    about = {
        "network": {"architecture": {"kind": "softmax"}, "shape": [1, 8, 8], "classes": 10},
        "spec": {"maker": "weights"},
    }
    found = untrained(about, torch.device("cpu"))
    wanted = build_network({"kind": "softmax"}, (1, 8, 8), 10, stable_seed("model", 0) % 2**63)
    assert torch.equal(found[1].weight, wanted[1].weight)
    assert not found.training and not found[1].weight.requires_grad


def test_the_same_job_gives_the_same_bytes(made):
    before = (made / "units0").read_bytes()
    arrays, provenance = read_tensors(made / "units0")
    files = {"data": made / "data", "model": made / "model0", "reference": made / "model1"}
    step.main(job(**provenance["spec"]), SimpleNamespace(**files, units=made / "again"))
    assert (made / "again").read_bytes() == before
    assert not list(made.glob(".again*")), "the checkpoint stays"
    assert "units/relu 2/natural" in arrays


def test_numbers_that_there_are_none_of_are_null(made):
    rows = read_tensors(made / "units0")[1]["rows"]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_the_table_of_a_network(table):
    ((name, notes, shown),) = unit_tables(table)
    assert name == "A | $" and notes.startswith("Means over seeds 0, 1")
    rows = shown.set_index([shown["layer"].str[0], shown["directions"].str[0]])
    cell = rows["purity"]["relu 2", "units"]
    runs = table[(table["layer"] == "relu 2") & (table["family"] == "units")]
    runs = runs[runs["statistic"] == "purity"]
    assert cell[0] == f"{runs['value'].mean():.3f}"
    assert cell[1].startswith(f"bases {runs['null_mean'].mean():.3f} ±")
    assert f"{runs['z'].min():+.1f} to {runs['z'].max():+.1f}" in cell[3]
    assert cell[-1].endswith("of 2")
    assert ("relu 2", "units, best tenth") in rows.index
    assert rows["entropy, bits"]["input", "random images"][0] != ""


def test_one_seed_has_its_z_and_p(table):
    ((_, notes, shown),) = unit_tables(table[table["seed"] == 0])
    assert not notes.startswith("Means over seeds")
    assert any(cell[-1].startswith("z ") and ", p " in cell[-1] for cell in shown["purity"])


def test_five_seeds_have_an_interval(table):
    copies = [table[table["seed"] == 0].assign(seed=seed) for seed in range(5)]
    for number, copy in enumerate(copies):
        copy["value"] += 0.01 * number
    ((_, _, shown),) = unit_tables(pd.concat(copies))
    cell = shown["purity"].iloc[1]
    assert "[" in cell[2] and "]" in cell[2]


def test_figures_are_made_from_the_steps(made):
    parts = [made / "units0", made / "units1"]
    about = [{"network": "A | $", "seed": seed} for seed in (0, 1)]
    upstream = {"parts": [artifact(path) for path in parts]}
    out = {"figure": made / "strips.svg", "pdf": made / "strips.pdf"}
    plot_units.main(
        job(about=about, title="A title", upstream=upstream), SimpleNamespace(parts=parts, **out)
    )
    grid = {"figure": made / "grid.png", "pdf": made / "grid.pdf"}
    upstream = {"data": "data", "units": artifact(parts[0])}
    plot_top_images.main(
        job(images=IMAGES, label="A | $", upstream=upstream),
        SimpleNamespace(data=made / "data", units=parts[0], **grid),
    )
    for path in (*out.values(), *grid.values()):
        assert path.stat().st_size > 1000


def test_nothing_is_cut_off(made):
    arrays, provenance = read_tensors(made / "units0")
    runs = [(provenance["rows"], arrays)]
    with house_style():
        figure = unit_figure({"A" * 60: runs, "B": runs}, "A title " * 30)
        figure.draw_without_rendering()
        assert len(figure.axes) == 8
        for ax in figure.axes[1:]:
            extent = ax.get_tightbbox()
            assert extent.x0 >= 0 and extent.y0 >= 0
            assert extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1
    assert math.isfinite(figure.axes[0].lines[0].get_xdata()[0])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 90, 120)])
def test_every_image_has_its_place_in_a_mosaic(shape):
    images = np.random.default_rng(0).random((2, TOP, *shape))
    picture = mosaic(images)
    times = 8 if shape[1] == 8 else 1
    gap = round(GAP * max(shape) * times)
    down, across = shape[1] * times + gap, shape[2] * times + gap
    assert picture.shape == (shape[0], 2 * down - gap, TOP * across - gap)
    found = picture[:, down::times, 3 * across :: times][:, : shape[1], : shape[2]]
    np.testing.assert_array_equal(found, images[1, 3])
    assert (picture[:, :, across - gap : across] == 1).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 90, 120)])
def test_grids_lie_within_the_figure_and_apart(shape):
    images = np.random.default_rng(0).random((40, *shape))
    top = np.arange(2 * TOP).reshape(2, TOP)
    with house_style():
        figure = grid_figure([("left " * 40, top, "right", top + 20)] * 2, images, "title")
        figure.draw_without_rendering()
    boxes = [ax.get_position() for ax in figure.axes]
    assert len(boxes) == 4
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
    for text in figure.texts:
        extent = text.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
        assert not any(extent.overlaps(ax.get_window_extent()) for ax in figure.axes)


def test_a_network_is_read_back(made):
    network, about = load_network(made / "model0", artifact(made / "model0"), torch.device("cpu"))
    before = untrained(about, torch.device("cpu"))
    for one, other in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)
