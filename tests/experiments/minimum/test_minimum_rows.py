"""Rows, tables and figure of smallest distortions; the engines in closed form on photographs."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from blindspots.attacks.closed_form import closed_form_distances
from blindspots.attacks.ddn import ddn
from blindspots.attacks.lbfgs import lbfgs
from blindspots.evaluation.storage import rounded
from blindspots.experiments.minimum.fields import FIELDS
from blindspots.experiments.minimum.figures import (
    Example,
    magnified,
    minimum_figure,
    visible_factor,
)
from blindspots.experiments.minimum.rows import minimum_row, over_seeds
from blindspots.experiments.minimum.tables import minimum_tables
from blindspots.models.networks import build_network
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page
from blindspots.summary.style import house_style

COUNTS = {"n_fooled": 3, "target_hit": 2}
SPEC = {"labels": {"a": "Net | $"}, "dataset": "photos", "about": [{"pool": "test"}]}


class Means(nn.Module):
    """A convolution and the mean over space: linear, as the head of networks of photographs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, images):
        return self.conv(images).mean((2, 3))


@pytest.mark.parametrize("engine", [ddn, lbfgs])
def test_the_smallest_change_of_a_convolution_and_a_mean_is_exact_in_the_box(engine):
    torch.manual_seed(0)
    network = Means()
    network.conv.bias.data *= 0.1
    # Of very dark and very light pixels, so that the box is in the way.
    images = torch.rand(10, 3, 12, 12).mul_(3).sub_(1).clamp_(0, 1)
    labels = network(images).argmax(1)
    options = {"polish_steps": 12} | ({"steps": 40} if engine is ddn else {})
    found = engine(network, images, labels, **options)
    assert found.success.all()
    zero = torch.zeros(1, 3, 12, 12)
    linear = torch.autograd.functional.jacobian(lambda x: network(x)[0], zero).flatten(1)
    exact = closed_form_distances(
        linear.double(),
        network(zero)[0].detach().double(),
        images.flatten(1).double(),
        labels,
    ).amin(1)
    # 1e-5 of the length is the margin that a success keeps.
    np.testing.assert_allclose(found.rms.double(), exact, rtol=2e-4)
    at_the_edge = (found.images == 0) | (found.images == 1)
    changed = at_the_edge & (found.images != images)
    assert changed.any()  # the box was in the way


def some_set(seed=0, count=10):
    generator = np.random.default_rng(seed)
    success = np.arange(count) != 4
    rms = np.where(success, generator.uniform(0.001, 0.003, count), np.nan).astype(np.float32)
    return {
        "success": success,
        "rms": rms,
        "evaluations": np.full(count, 44),
        "kkt_residual": np.where(success, 0.5, np.nan).astype(np.float32),
        "indices": np.arange(count) * 2,
    }


def row(found, seed=0, targets="random"):
    about = {"source": "a", "seed": seed, "attack": "x", "targets": targets, "left_out": 7}
    return {**about, **minimum_row(found, COUNTS, targets)}


def test_columns_are_as_agreed():
    assert list(FIELDS[:6]) == ["source", "targets", "n", "success", "rms", "survives_8bit"]
    assert set(row(some_set())) == set(FIELDS)


def test_failures_count_in_the_shares_and_not_in_the_sizes():
    found = some_set()
    shown = row(found)
    assert (shown["n"], shown["success"], shown["survives_8bit"]) == (10, 0.9, 0.2)
    assert shown["success_low"] < 0.9 < shown["success_high"] < 1
    sizes = found["rms"][found["success"]].astype(float)
    assert shown["rms"] == pytest.approx(sizes.mean())
    half = 2.306004 * sizes.std(ddof=1) / 3  # Student's t with eight degrees of freedom
    assert shown["rms_high"] - shown["rms"] == pytest.approx(half)
    assert (shown["gradients"], shown["kkt_residual"]) == (44, 0.5)
    # Whatever wrong answer is one that was aimed at.
    assert row(found, targets="untargeted")["survives_8bit"] == 0.3


def test_no_success_has_no_size():
    found = some_set()
    found["success"][:] = False
    shown = row(found)
    assert shown["success"] == 0 and math.isnan(shown["rms"]) and math.isnan(shown["rms_low"])
    line = over_seeds([shown], [found])
    assert "0.0 %" in to_markdown(minimum_tables(line, SPEC, 0.0065))


def test_seeds_are_the_replicates():
    sets = [some_set(seed) for seed in range(3)]
    (line,) = over_seeds([row(s, seed) for seed, s in enumerate(sets)], sets)
    means = [np.nanmean(s["rms"]) for s in sets]
    assert line["rms"] == pytest.approx(np.mean(means))
    assert line["rms_low"] < line["rms"] < line["rms_high"]
    assert line["seeds"] == 3 and line["success"] == pytest.approx(0.9)
    assert "3 seeds" in to_markdown(minimum_tables([line], SPEC, 0.0065))


def test_print_stands_beside_and_says_what_can_be_compared():
    found = some_set()
    sections = minimum_tables(over_seeds([row(found)], [found]), SPEC, 0.006508)
    ((_, notes, shown),) = sections
    assert shown["source"].tolist() == [["Net | $"], ["AlexNet, Szegedy et al. 2013, figure 5"]]
    assert shown["RMS"].iloc[-1] == ["0.0065"] and shown["attacked"].iloc[-1] == ["64"]
    assert "order of magnitude" in notes and "What cannot" in notes
    assert page(sections)


def test_small_changes_of_8_bit_images_are_undone_by_rounding():
    """What the table says of changes below half a level."""
    levels = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images = levels.float() / 255
    change = 0.49 / 255 * torch.sign(torch.randn(images.shape))
    assert torch.equal(rounded((images + change).clamp(0, 1)), images)


def test_the_factor_makes_a_distortion_as_visible_as_print():
    assert visible_factor(0.006508, 0.006508) == 10
    assert visible_factor(0.000315, 0.006508) == 210
    example = Example(np.full((3, 2, 2), 0.4), np.full((3, 2, 2), 0.41), "a", "b", 0.01)
    # As printed: times ten, shifted by 128, clamped.
    assert magnified(example, 10) * 255 == pytest.approx(128 + 25.5)
    assert magnified(example, 1000).max() == 1
    assert magnified(example, -1000).min() == 0


@pytest.mark.parametrize("shape", [(3, 20, 30), (1, 8, 8)])
def test_figure_has_a_row_for_each_image(shape):
    generator = np.random.default_rng(0)
    examples = [
        Example(*generator.uniform(size=(2, *shape)), "a $ name " * 9, "other", 0.0003)
        for _ in range(3)
    ]
    with house_style():
        figure = minimum_figure(examples, 200.0, "title")
        figure.savefig(io.BytesIO(), format="png")
    assert len(figure.axes) == 12 and all(len(ax.images) == 1 for ax in figure.axes)
    heads = [ax.get_title() for ax in figure.axes[:4]]
    assert heads == ["original", "difference x 10", "difference x 200", "adversarial"]


def test_alexnet_goes_the_whole_way_with_random_weights():
    """Attacked, measured, stored and shown; with images of 64 pixels and a hundred classes."""
    about = {"kind": "torchvision:alexnet"}
    shape = (3, 64, 64)
    network = build_network(about, shape, 100, seed=0).eval()
    levels = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(0))
    images = levels.float() / 255
    labels = network(images).argmax(1)
    found = ddn(network, images, labels, steps=10)
    arrays = {name: value.numpy() for name, value in vars(found).items()}
    survived = int((network(rounded(found.images)).argmax(1) != labels).sum())
    shown = minimum_row(arrays, {"n_fooled": survived}, "untargeted")
    assert shown["n"] == 2 and shown["success"] == 1 and 0 < shown["rms"] < 0.1
    examples = [
        Example(x.numpy(), y.numpy(), "a", "b", float(r))
        for x, y, r in zip(images, found.images, found.rms, strict=True)
    ]
    assert minimum_figure(examples, visible_factor(shown["rms"], 0.006508), "AlexNet")
