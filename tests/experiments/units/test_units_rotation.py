"""The exact rotation test: ties, invariance, size and power."""

import numpy as np
import pytest
import torch

from blindspots.experiments.units.coherence import Coherence, coordinates
from blindspots.experiments.units.fields import SUMMARIES, TOP
from blindspots.experiments.units.measure import FEWEST, measure_units
from blindspots.experiments.units.rotation import (
    compared,
    haar_basis,
    summaries,
    top_images,
)
from blindspots.experiments.units.spaces import (
    UNITS,
    live_units,
    principal_axes,
    whitened,
)

PURITY, BEST = SUMMARIES.index("purity"), SUMMARIES.index("purity_q90")


def coherence_of(labels, seed=0):
    """Statistics of images that are noise, but for their labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(len(labels), 1, 2, 2, generator=generator)
    reference = torch.randn(len(labels), 3, generator=generator)
    return Coherence(labels, images, reference, generator)


def against_random_bases(features, coherence, bases, *stream):
    """Return the tests of the natural basis of features (N, D)."""
    images = features.T.contiguous()
    null = np.stack(
        [
            summaries(coherence(top_images(haar_basis(len(images), *stream, b) @ images))).numpy()
            for b in range(bases)
        ]
    )
    value = summaries(coherence(top_images(images))).tolist()
    return [compared(v, null[:, column]) for column, v in enumerate(value)]


# Bases and top images ----------------------------------------------------------------------------


def test_bases_are_orthonormal_and_follow_from_their_stream():
    basis = haar_basis(30, 1, "units", 2)
    torch.testing.assert_close(basis @ basis.T, torch.eye(30), atol=1e-5, rtol=0)
    assert torch.equal(basis, haar_basis(30, 1, "units", 2))
    assert not torch.equal(basis, haar_basis(30, 1, "units", 3))


def test_bases_are_uniform():
    """Entries of a uniform one have mean 0, variance 1 / D and, here, no preferred sign."""
    entries = torch.stack([haar_basis(4, b) for b in range(1500)])
    assert entries.mean(0).abs().max() < 5 * 0.5 / 1500**0.5
    torch.testing.assert_close(entries.var(0), torch.full((4, 4), 0.25), atol=0.04, rtol=0)
    assert abs((torch.linalg.det(entries) > 0).float().mean() - 0.5) < 0.07


def test_of_equal_responses_the_first_images_count():
    scores = torch.zeros(3, 50)
    scores[0, 40:43] = 1.0
    scores[1] = torch.arange(50.0)
    top = top_images(scores, 5)
    assert top[0].tolist() == [40, 41, 42, 0, 1]
    assert top[1].tolist() == [49, 48, 47, 46, 45]
    assert top[2].tolist() == [0, 1, 2, 3, 4]


def test_a_permutation_of_the_units_changes_no_bit():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3000, 40, generator=generator).relu()
    labels = torch.randint(10, (3000,), generator=generator)
    coherence = coherence_of(labels)
    permutation = torch.eye(40)[torch.randperm(40, generator=generator)]
    plain, permuted = (
        summaries(coherence(top_images(rows @ features.T))) for rows in (torch.eye(40), permutation)
    )
    assert torch.equal(plain, permuted)


# Size and power ----------------------------------------------------------------------------------


def test_p_is_uniform_where_the_natural_basis_is_a_rotation():
    """The size of the test, for correlated features that carry the classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    features = torch.randn(120, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    features[:, :2] += 2.0 * labels[:, None]
    coherence = coherence_of(labels)
    ps = []
    for run in range(80):
        rotated = features @ haar_basis(8, "of the test", run)
        ps.append([t.p for t in against_random_bases(rotated, coherence, 19, run)])
    ps = np.array(ps)[:, [SUMMARIES.index(name) for name in ("ref", "pix", "cosine")]]
    # Of 80 with p <= 0.2 expect 16, with a standard deviation of 3.6; so is the mean of all.
    assert ((ps <= 0.2).sum(0) <= 28).all() and ((ps <= 0.2).sum(0) >= 5).all()
    assert np.abs(ps.mean(0) - 0.55).max() < 0.12


@pytest.mark.parametrize("share", [0.3, 0.1])
def test_units_of_one_class_are_found(share):
    """10,000 Gaussian images of 100 units, some of them two deviations higher on one class.

    Three tenths of them show in the mean; a tenth shows among the most coherent units.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10_000) % 10
    features = torch.randn(10_000, 100, generator=generator)
    for unit in range(round(100 * share)):
        features[labels == unit % 10, unit] += 2.0
    tests = against_random_bases(features, coherence_of(labels), 119, share)
    mean, best = tests[PURITY], tests[BEST]
    if share == 0.3:
        assert mean.p <= 1 / 60 and mean.value > mean.null_mean + 4 * mean.null_sd
        assert mean.value == pytest.approx(0.49, abs=0.05)
        assert mean.null_mean == pytest.approx(0.41, abs=0.03)
    else:
        assert best.p <= 1 / 60 < mean.p and best.value > best.null_mean


def test_p_counts_bases_on_the_nearer_side_twice():
    null = np.arange(19.0)
    assert compared(100.0, null).p == compared(-100.0, null).p == pytest.approx(0.1)
    assert compared(9.0, null).p == 1.0  # in the middle, and one of them
    assert compared(17.0, null).p == pytest.approx(0.3)
    assert compared(17.0, null).z == pytest.approx((17 - 9) / null.std(ddof=1))


def test_bases_that_are_all_alike_have_no_z():
    test = compared(1.0, np.ones(19))
    assert np.isnan(test.z) and test.p == 1.0 and test.null_sd == 0
    assert np.isnan(compared(float("nan"), np.ones(19)).p)


# Spaces ------------------------------------------------------------------------------------------


def test_dead_units_are_left_out():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2000, 6, generator=generator)
    features[:, 0] = 0.0
    features[:, 1] = -1.0
    features[:, 2] = torch.zeros(2000).index_fill(0, torch.arange(19), 1.0)
    features[:, 3] = torch.zeros(2000).index_fill(0, torch.arange(20), 1.0)
    live, dead = live_units(features, generator)
    assert (live.shape[1], dead) == (3, 3)
    assert sorted(live.sum(0).tolist()) == sorted(features[:, 3:].sum(0).tolist())


def test_of_wide_layers_some_units_are_drawn():
    features = torch.rand(30, UNITS + 100)
    live, dead = live_units(features, torch.Generator().manual_seed(0))
    assert live.shape[1] == UNITS and dead == 0


def test_whitened_features_are_not_correlated():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    white = whitened(features).double()
    torch.testing.assert_close(
        white.T @ white / 500, torch.eye(6, dtype=torch.float64), atol=1e-4, rtol=0
    )
    # As near to the features as can be: the cross-covariance is symmetric.
    cross = white.T @ (features - features.mean(0)).double()
    torch.testing.assert_close(cross, cross.T, atol=1e-2, rtol=0)


def test_whitening_leaves_out_what_has_no_variance():
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    white = whitened(features).double()
    values = torch.linalg.eigvalsh(white.T @ white / 50)
    torch.testing.assert_close(values[:3], torch.zeros(3).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(values[3:], torch.ones(3).double(), atol=1e-4, rtol=0)


def test_principal_axes_are_those_of_largest_variance():
    features = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    features = features * torch.tensor([1.0, 9.0, 3.0, 0.1, 0.1])
    axes = principal_axes(features, 2)
    assert axes.abs().argmax(1).tolist() == [1, 2]
    torch.testing.assert_close(axes @ axes.T, torch.eye(2), atol=1e-5, rtol=0)


def test_distances_stay_in_fewer_dimensions():
    points = torch.rand(20, 300, generator=torch.Generator().manual_seed(0))
    fewer = coordinates(points)
    assert fewer.shape == (20, 20)
    torch.testing.assert_close(
        torch.cdist(fewer, fewer), torch.cdist(points, points), atol=1e-4, rtol=0
    )


# All of a network --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """Features of a network, of the same untrained and of another; images and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 5

    def features(width):
        return torch.randn(200, width, generator=generator) + labels[:, None]

    trained, untrained = ({"relu 1": features(7).relu(), "logits": features(5)} for _ in range(2))
    images = torch.rand(200, 1, 4, 4, generator=generator)
    return trained, untrained, features(6), images, labels


def test_all_families_of_all_layers_are_measured(network):
    found = measure_units(*network, bases=19, seed=0)
    rows = {(row["layer"], row["family"]) for row in found.rows}
    hidden = ("units", "random", "pca", "whitened", "untrained")
    assert rows == {
        ("input", "chance"),
        ("input", "pixels"),
        ("logits", "logits"),
        *(("relu 1", family) for family in hidden),
    }
    tests = [row for row in found.rows if row["family"] != "chance"]
    assert {row["statistic"] for row in tests} == set(SUMMARIES)
    assert all(row["bases"] == 19 and 0.1 <= row["p"] <= 1 for row in tests)
    assert found.arrays["units/relu 1/natural"].shape == (len(SUMMARIES) // 2, 7)
    top = found.arrays["pixels/input/random/top"]
    assert top.shape == (4, TOP) and top.max() < 200


def test_top_images_are_positions_in_the_images_as_given(network):
    """Though they are taken in another order, because of ties."""
    trained, *_ = network
    top = measure_units(*network, bases=19, seed=0).arrays["units/relu 1/natural/top"]
    wanted = {tuple(row) for row in top_images(trained["relu 1"].T.contiguous()).tolist()}
    assert {tuple(row) for row in top.tolist()} <= wanted


def test_a_layer_without_units_is_a_row_without_numbers(network):
    trained, untrained, *others = network
    dead = {"relu 1": torch.zeros(200, 7), "logits": trained["logits"]}
    rows = measure_units(dead, untrained, *others, bases=19, seed=0).rows
    units = [row for row in rows if row["family"] == "units"]
    assert all(row["bases"] == 0 and "value" not in row and row["dead"] == 7 for row in units)
    assert units[0]["directions"] < FEWEST


class KilledError(Exception):
    """Stands for a signal."""


class Memory:
    """A checkpoint that keeps everything, and ends the job after so many times."""

    def __init__(self, left):
        self.stages, self.left = {}, left

    def load(self, stage):
        return self.stages.get(stage)

    def save(self, stage, state, force=False):
        self.stages[stage] = state()
        self.left -= 1
        if not self.left:
            raise KilledError


def test_a_killed_job_goes_on_to_the_same_result(network):
    wanted = measure_units(*network, bases=19, seed=0)
    memory = Memory(30)
    with pytest.raises(KilledError):
        measure_units(*network, bases=19, seed=0, checkpoint=memory)
    assert 0 < len(memory.stages) < 5
    memory.left = 10**9
    found = measure_units(*network, bases=19, seed=0, checkpoint=memory)
    assert found.rows == wanted.rows
    assert all(np.array_equal(found.arrays[name], wanted.arrays[name]) for name in wanted.arrays)
