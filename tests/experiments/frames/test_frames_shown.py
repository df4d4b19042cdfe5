"""Tables and the figure of frame bounds; Tiny Darknet where its weights are at hand."""

import io
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from blindspots.escapes import escape_markdown
from blindspots.experiments.frames.bounds import frame_bounds
from blindspots.experiments.frames.figures import frame_figure
from blindspots.experiments.frames.tables import PRINTED, frame_tables
from blindspots.models.networks import build_network
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page
from blindspots.summary.style import house_style

SEEDS = (0, 1, 2)
DARKNET = "16x3 pool 32x3 pool 16x1 128x3 16x1 128x3 pool 32x1 256x3 32x1 256x3 pool "
DARKNET += "64x1 512x3 64x1 512x3 128x1"


@pytest.fixture(scope="module")
def table():
    """Bounds of two small models and three seeds, as they are read back from a file."""
    parts = []
    kinds = {
        "N6": {"kind": "mlp", "widths": [6], "activation": "sigmoid"},
        "conv | $": {"kind": "conv", "channels": [3], "units": 5},
    }
    for model, architecture in kinds.items():
        for seed in SEEDS:
            network = build_network(architecture, (1, 8, 8), 10, seed)
            part = pd.DataFrame(frame_bounds(network, (1, 8, 8)))
            part.insert(0, "seed", seed)
            part.insert(0, "model", model)
            parts.append(part)
    parts[0].loc[0, "lower"] = 0.0
    return pd.read_csv(io.StringIO(pd.concat(parts).to_csv(index=False)))


@pytest.fixture
def printed(reference):
    return pd.read_csv(reference / "szegedy2013-table5.csv")


def test_columns_begin_as_agreed(table):
    wanted = ["model", "seed", "layer", "kind", "size", "lower", "power", "upper", "method"]
    assert list(table.columns[:9]) == wanted


def test_tables_show_medians_and_ranges(table, printed):
    (first, notes, shown), (second, *_), _ = frame_tables(table, printed)
    assert (first, second) == ("N6", "conv | $")
    assert "Medians over seeds 0, 1, 2" in notes
    uppers = table[(table["model"] == "N6") & (table["layer"] == "dense 2")]["upper"]
    row = shown.set_index(shown["layer"].str[0]).loc["dense 2"]
    assert row["upper"] == [
        f"{uppers.median():.4g}",
        f"[{uppers.min():.4g}, {uppers.max():.4g}]",
    ]
    assert row["lower"][-1] == "exact, gram"
    assert shown["layer"].str[0].tolist() == ["dense 1", "sigmoid 1", "dense 2"]


def test_layers_without_a_stride(printed):
    """Rows as they are measured, with empty texts, not as they are read from a file."""
    architecture = {"kind": "mlp", "widths": [6], "activation": "sigmoid"}
    rows = frame_bounds(build_network(architecture, (1, 8, 8), 10, 0), (1, 8, 8))
    (_, _, shown), _ = frame_tables(pd.DataFrame(rows).assign(model="N6", seed=0), printed)
    assert shown["size"].tolist() == [["64x6"], [""], ["6x10"]]


def test_one_seed_has_no_range(table, printed):
    (_, notes, shown), *_ = frame_tables(table[table["seed"] == 0], printed)
    assert "Medians" not in notes
    assert all(len(cell) == 1 for cell in shown["upper"])


def test_print_stands_in_a_block_of_its_own(table, printed):
    heading, notes, shown = frame_tables(table, printed)[-1]
    assert heading == PRINTED
    assert "adjoint" in notes and "factor of 8" in notes
    assert shown["shape"].str[0].tolist() == [
        *("tall", "tall", "tall", "square", "wide", "wide", "square", "wide")
    ]
    assert shown["lower, print"].str[0].astype(float).tolist() == printed["lower_bound"].tolist()
    uppers = float(printed["upper_bound"].prod()) * 8
    assert float(shown["product of uppers"].iloc[-1][0]) == pytest.approx(uppers, rel=0.01)
    random = shown["lower at random"].str[0].astype(float)
    assert random[[5, 7]].tolist() == pytest.approx([0.192, 0.292])


def test_tables_can_be_written(table, printed):
    sections = frame_tables(table, printed)
    text = to_markdown(sections)
    assert text.count("###") == 3
    assert f"### {escape_markdown('conv | $')}\n" in text
    assert "<table>" in page(sections)


def test_an_unknown_product_is_said_to_be_unknown(printed):
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2), nn.Conv2d(2, 1, 1))
    rows = pd.DataFrame(frame_bounds(network, (1, 4, 4))).assign(model="M", seed=0)
    (_, _, shown), _ = frame_tables(rows, printed)
    assert shown["product of uppers"].iloc[-1] == ["not known"]
    with house_style():
        frame_figure(rows, "title")


def test_the_figure_shows_all_layers_and_cuts_nothing_off(table):
    long = table.assign(size=table["size"].where(table["size"].isna(), "1234x56x56x" + "9" * 25))
    with house_style():
        figure = frame_figure(long, "title")
        figure.draw_without_rendering()
        assert len(figure.axes) == 4
        for ax in figure.axes:
            assert ax.get_xscale() == "log"
            extent = ax.get_tightbbox()
            assert extent.x0 >= 0 and extent.y0 >= 0
            assert extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1
        names = [label.get_text().split("   ")[0] for label in figure.axes[0].get_yticklabels()]
    assert names == ["dense 1", "sigmoid 1", "dense 2"]


class Darknet(nn.Module):
    """Maps photographs (B, 3, 224, 224) to logits (B, 1000)."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for item in DARKNET.split():
            if item == "pool":
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
                continue
            filters, kernel = map(int, item.split("x"))
            layers += [
                nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(filters, eps=1e-3),
                nn.LeakyReLU(0.1),
            ]
            channels = filters
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(channels, 1000, 1)

    def forward(self, images):
        return self.classifier(self.features(images)).mean((2, 3))


def test_tiny_darknet():
    root = os.environ.get("BLINDSPOTS_DATA")
    path = Path(root or "", "imagenet-mini/tiny-darknet.pt")
    if not root or not path.exists():
        pytest.skip("needs imagenet-mini/tiny-darknet.pt under BLINDSPOTS_DATA")
    network = Darknet()
    network.load_state_dict(torch.load(path, weights_only=True))
    rows = pd.DataFrame(frame_bounds(network, (3, 224, 224)))
    assert rows["kind"].tolist() == ["conv"] * 16 + ["mean"]
    assert (rows["power"] <= rows["upper"] * (1 + 1e-9)).all()
    assert (rows["power"] >= 0.97 * rows["upper"]).all()
    assert rows["product"].iloc[15] == pytest.approx(9.9e13, rel=0.01)
    assert rows["product"].iloc[16] == pytest.approx(rows["product"].iloc[15] / 14)
    assert (rows["method"][:16] == "windows").sum() == 8
