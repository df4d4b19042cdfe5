"""Tables and figures of detectors."""

import io

import numpy as np
import pandas as pd
import pytest

from blindspots.experiments.quocnet.examples import Triple, example_figure, factor_for
from blindspots.experiments.quocnet.figures import detector_figure
from blindspots.experiments.quocnet.tables import COLUMNS, detector_rows, detector_table
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page
from blindspots.summary.style import house_style

MODELS = {
    "quoc": {"label": "QuocNet | $", "stages": 1, "features": "rica"},
    "pixels": {"label": "Pixels", "stages": 0, "features": "pixels"},
}
DIRECTIONS = ["not 8 -> 8", "8 -> not 8"]


def run(seed, failed=0):
    """What is measured of one model and seed: 50 images, of which 12 are attacked."""
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.repeat([1, 0], [10, 40])
    attacked = np.repeat([1, 0], 6)
    success = np.arange(12) >= failed
    return {
        "scores": (random.standard_normal(50) + 3 * (labels - 0.5)).astype(np.float32),
        "labels": labels,
        "attacked_labels": attacked,
        "attacked_indices": random.permutation(100)[:12],
        "attacked_success": success,
        "attacked_rms": np.where(success, np.where(attacked, 0.02, 0.04), np.nan),
    }


def table_of(seeds, failed=0):
    measured = {model: {seed: run(seed, failed) for seed in seeds} for model in MODELS}
    table = detector_rows(measured, MODELS, "MNIST, 8", DIRECTIONS)
    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


def test_columns_begin_as_agreed():
    assert tuple(table_of([0]).columns[:8]) == COLUMNS


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_rows_are_models_and_directions(seeds):
    table = table_of(seeds)
    assert table["direction"].tolist() == ["8 -> not 8", "not 8 -> 8"] * 2
    assert table["rms"].tolist() == pytest.approx([0.02, 0.04] * 2)
    assert (table["success"] == 1).all()
    assert (table["attacked"] == 6).all()
    for name in ("balanced_accuracy", "auc", "rms", "success"):
        assert (table[f"{name}_low"] <= table[name] + 1e-9).all()
        assert (table[f"{name}_high"] >= table[name] - 1e-9).all()


def test_failures_count():
    """They lower the success, and no distortion is made up for them."""
    table = table_of([0], failed=3)
    first = table.iloc[0]
    assert first["success"] == pytest.approx(0.5)
    assert first["rms"] == pytest.approx(0.02)
    nothing = table_of([0], failed=6).iloc[0]
    assert nothing["success"] == 0
    assert np.isnan(nothing["rms"])
    ((_, _, shown),) = detector_table(table_of([0], failed=6))
    assert shown["RMS"].iloc[0] == ["none"]


def test_tables_can_be_written():
    for seeds, words in (([0], "95 % intervals over images"), ([0, 1, 2], "Means of 3 seeds")):
        sections = detector_table(table_of(seeds))
        ((heading, notes, shown),) = sections
        assert heading == "MNIST, 8"
        assert words in notes
        assert shown["RMS"].iloc[0][0] == "0.0200"
        assert "Pixels" in to_markdown(sections)
        assert "<table>" in page(sections)


def test_two_seeds_have_no_interval():
    ((_, notes, shown),) = detector_table(table_of([0, 1]))
    assert len(shown["AUC"].iloc[0]) == 1
    assert "Means of 2 seeds" in notes


def triples(count, size, shape=(3, 32, 32)):
    random = np.random.Generator(np.random.PCG64(0))
    images = random.random((count, *shape)).astype(np.float32)
    return [Triple(image, image + size * (random.random(shape) - 0.5), size) for image in images]


@pytest.mark.parametrize(
    ("largest", "factor"), [(0.02, 50), (0.03, 33), (0.0021, 470), (0.5, 2), (1.0, 1), (0.0, 1)]
)
def test_the_factor_makes_the_largest_difference_white(largest, factor):
    image = np.zeros((1, 2, 2))
    change = image.copy()
    change[0, 0, 0] = -largest
    assert factor_for([Triple(image, change, 0.0), Triple(image, image, 0.0)]) == factor


def test_the_examples_show_all_and_cut_nothing_off():
    eights, others = triples(5, 0.01), triples(3, 0.004)
    with house_style():
        figure = example_figure(
            {"a": eights, "b": others}, "A title that is so long that it takes more lines " * 3
        )
        figure.draw_without_rendering()
    axes = [ax for block in figure.subfigs for ax in block.axes]
    assert sum(bool(ax.images) for ax in axes) == 3 * (5 + 3)
    heads = {ax.get_title() for ax in axes} - {""}
    assert heads == {
        "original",
        "adversarial",
        f"|difference| x {factor_for([*eights, *others]):g}",
    }
    for ax in axes:
        extent = ax.get_tightbbox()
        if ax.images:
            assert extent.x0 >= 0 and extent.y0 >= 0
            assert extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1


def test_a_direction_without_a_success_is_said_to_be_one():
    with house_style():
        figure = example_figure({"8 -> not 8": [], "not 8 -> 8": triples(2, 0.1)}, "title")
        figure.draw_without_rendering()
    assert "no attack" in figure.subfigs[0].axes[1].texts[0].get_text()


@pytest.mark.parametrize("seeds", [[0], [0, 1], [0, 1, 2]])
def test_the_figure_shows_all_detectors(seeds):
    with house_style():
        figure = detector_figure(table_of(seeds), "title")
        figure.draw_without_rendering()
    accuracy, rms = figure.axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["QuocNet | $", "Pixels"]
    assert rms.get_xscale() == "log"
    assert len(rms.containers) == 2
    for ax in figure.axes:
        extent = ax.get_tightbbox()
        assert extent.x0 >= 0 and extent.y0 >= 0
        assert extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1


def test_a_figure_without_a_success():
    with house_style():
        detector_figure(table_of([0], failed=12), "title").draw_without_rendering()
