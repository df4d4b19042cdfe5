"""Rows, tables and figures of amplification."""

import io
import math

import numpy as np
import pandas as pd
import pytest

from blindspots.experiments.amplification.fields import FIELDS, PERTURBATIONS, UNTRAINED
from blindspots.experiments.amplification.figures import DISPLACEMENT, GAIN, depth_figure
from blindspots.experiments.amplification.gains import Layer
from blindspots.experiments.amplification.rows import amplification_rows
from blindspots.experiments.amplification.tables import amplification_tables, over_seeds
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page
from blindspots.summary.style import house_style

LABELS = {"a": "Net | $", "b": "Other"}
SPEC = {"labels": LABELS, "dataset": "digits", "pool": "few", "targets": "untargeted"}
LAYERS = [Layer("images", None, 1.0), Layer("conv 1", 3, 2.5), Layer("dense 1", 7, math.nan)]


def rows_of(seed, images=12, scale=1.0):
    generator = np.random.default_rng(seed)
    moved = generator.uniform(0.5, 1.0, (4, 3, images)) * np.array([1, 2, 0.1])[:, None] * scale
    norms = generator.uniform(1, 2, (3, 7))
    norms[2] = np.nan
    return amplification_rows(LAYERS, moved, norms), moved, norms


def table_of(seeds):
    found = []
    for network in ("a", "a" + UNTRAINED, "b", "b" + UNTRAINED):
        for seed in seeds:
            rows, *_ = rows_of(seed + 10 * len(network))
            found += [{"network": network, "seed": seed, **row} for row in rows]
    frame = pd.DataFrame(found, columns=FIELDS)
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


def test_columns_begin_as_agreed():
    wanted = "network seed layer perturbation gain displacement sigma bound n"
    assert list(FIELDS[:9]) == wanted.split()
    row = rows_of(0)[0][0]
    assert {"network", "seed", *row} == set(FIELDS)


def test_rows_are_medians_over_images():
    rows, moved, norms = rows_of(0)
    assert len(rows) == len(LAYERS) * len(PERTURBATIONS)
    row = rows[len(PERTURBATIONS) + 1]
    assert (row["layer"], row["perturbation"], row["n"], row["sigma_n"]) == (
        *("conv 1", "shuffled"),
        *(12, 7),
    )
    gains = moved[1, 1] / moved[1, 0]
    assert row["gain"] == pytest.approx(np.median(gains))
    assert row["gain_max"] == gains.max()
    # Of twelve values the third and the tenth: 1 - 2 P(X < 3) = 0.961.
    assert [row["gain_low"], row["gain_high"]] == np.sort(gains)[[2, 9]].tolist()
    apart = np.median(moved[PERTURBATIONS.index("difference"), 1])
    assert row["displacement"] == pytest.approx(np.median(moved[1, 1]) / apart)
    assert row["sigma"] == pytest.approx(np.median(norms[1]))
    assert math.isnan(rows[-1]["sigma"]) and rows[-1]["sigma_n"] == 0
    assert math.isnan(rows[-1]["bound"])


def test_images_alike_have_no_difference():
    """0 / 0 is no gain: such pairs are left out, and counted out."""
    _, moved, norms = rows_of(0)
    place = PERTURBATIONS.index("difference")
    moved[place, :, :5] = 0
    rows = amplification_rows(LAYERS, moved, norms)
    row = rows[len(PERTURBATIONS) + place]
    assert row["n"] == 7
    assert row["gain"] == pytest.approx(np.median(moved[place, 1, 5:] / moved[place, 0, 5:]))
    assert rows[place]["displacement"] == 1
    moved[place] = 0
    row = amplification_rows(LAYERS, moved, norms)[len(PERTURBATIONS) + place]
    assert row["n"] == 0 and math.isnan(row["gain"]) and math.isnan(row["displacement"])


def test_seeds_are_the_replicates():
    table = table_of((0, 1, 2, 5))
    line = over_seeds(table).set_index(["network", "layer", "perturbation"])
    line = line.loc[("a", "conv 1", "gaussian")]
    chosen = table[(table["network"] == "a") & (table["layer"] == "conv 1")]
    values = chosen[chosen["perturbation"] == "gaussian"]["gain"]
    assert line["gain"] == pytest.approx(values.mean())
    half = 3.182446 * values.std(ddof=1) / 2  # Student's t with three degrees of freedom
    assert line["gain_low"] == pytest.approx(values.mean() - half)
    assert line["gain_high"] == pytest.approx(values.mean() + half)


def test_two_seeds_have_no_interval_and_one_has_that_of_images():
    assert over_seeds(table_of((0, 1)))["gain_low"].isna().all()
    table = table_of((0,))
    one = over_seeds(table)
    assert one["gain_low"].tolist() == pytest.approx(table["gain_low"].tolist())


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_tables_show_every_network(seeds):
    sections = amplification_tables(table_of(seeds), {**SPEC, "seeds": list(seeds)})
    assert [heading for heading, *_ in sections] == [
        f"{name}, 12 images, 7 of them for sigma"
        for name in ("Net | $", "Net | $ (untrained)", "Other", "Other (untrained)")
    ]
    _, notes, shown = sections[0]
    assert ("95 % intervals over seeds" in notes) == (len(seeds) == 3)
    assert [row[0] for row in shown["layer"]] == ["images", "conv 1", "dense 1"]
    first = shown.iloc[1]
    assert first["bound"] == ["2.5"] and shown.iloc[2]["bound"] == ["not known"]
    ratio = float(first["adversarial"][0]) / float(first["gaussian"][0])
    assert float(first["adversarial / Gaussian"][0]) == pytest.approx(ratio, rel=0.02)
    assert to_markdown(sections) and page(sections)


@pytest.mark.parametrize("what", [GAIN, DISPLACEMENT])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_figures_have_a_panel_for_each_network(what, seeds):
    with house_style():
        figure = depth_figure(table_of(seeds), LABELS, "title", what)
        figure.savefig(io.BytesIO(), format="png")
    panels = figure.axes
    assert [ax.get_title() for ax in panels] == [
        *("Net | $", "Net | $ (untrained)", "Other", "Other (untrained)")
    ]
    assert all(len(ax.lines) == (6 if what == GAIN else 4) for ax in panels)
    (legend,) = figure.legends
    inside = legend.get_window_extent()
    assert inside.x0 >= 0 and inside.x1 <= figure.bbox.x1
