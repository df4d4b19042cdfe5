"""The Wilson interval, and intervals over seeds and images: their coverage, by simulation."""

import math

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binomtest
from scipy.stats import t as students_t

from blindspots.evaluation.intervals import wilson_interval
from blindspots.evaluation.seeds import mean_over_seeds


@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (50, 100), (9973, 10000)]
)
def test_interval_is_scipys(count, total):
    wanted = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(count, total) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_interval_by_hand():
    """5 of 10 with z = 1.96: 0.5 -+ z sqrt(0.25 / (10 + z^2))."""
    half = 1.9599640 * math.sqrt(0.25 / (10 + 3.8414588))
    assert wilson_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-7)


@pytest.mark.parametrize("total", [1, 7, 100, 60000])
def test_bounds_are_exact_at_the_ends(total):
    assert wilson_interval(0, total)[0] == 0.0
    assert wilson_interval(total, total)[1] == 1.0


@pytest.mark.parametrize("total", [1, 2, 9, 33])
def test_rate_lies_inside_and_ends_in_the_unit_interval(total):
    for count in range(total + 1):
        low, high = wilson_interval(count, total)
        assert 0 <= low <= count / total <= high <= 1


def test_nothing_counted_is_not_a_number():
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (1, 0), (0, -1)])
def test_impossible_counts_raise(count, total):
    with pytest.raises(ValueError):
        wilson_interval(count, total)


# Means over seeds: fooled images are drawn from a model whose rate is known in closed form --------


def simulated(generator, rate, spread, images, seeds, crossed, shared=0.5, attacked=0.95):
    """Draw which images are fooled, with seeds of source and victim that differ by ``spread``.

    An image is fooled where mu + source + victim + image + noise > 0. Image and noise have the
    variance 1 together, source and victim spread^2 each, so that the rate over all seeds and images
    is Phi(mu / sqrt(1 + 2 spread^2)).
    """
    mu = ndtri(rate) * math.sqrt(1 + 2 * spread**2)
    runs = (
        np.mgrid[:seeds, :seeds].reshape(2, -1) if crossed else np.arange(seeds)[None].repeat(2, 0)
    )
    effects = generator.normal(0, spread, (2, seeds))
    latent = mu + effects[0][runs[0]] + effects[1][runs[1]]
    noise = generator.normal(size=(len(latent), images)) * math.sqrt(1 - shared)
    noise += generator.normal(size=images) * math.sqrt(shared)
    right = generator.random((seeds, images)) < attacked
    return latent[:, None] + noise > 0, right[runs[0]], *runs


@pytest.mark.parametrize("crossed", [False, True], ids=["paired", "crossed"])
@pytest.mark.parametrize(
    ("rate", "spread", "images", "shared"),
    [
        (0.05, 0.06, 500, 0.5),
        (0.16, 0.06, 1000, 0.5),
        (0.5, 0.02, 2000, 0.9),
        (0.5, 0.2, 500, 0.5),
        (0.95, 0.2, 500, 0.1),
        (0.98, 0.06, 120, 0.5),
    ],
)
def test_coverage_of_five_seeds(rate, spread, images, shared, crossed):
    """At least 93 of 100 intervals hold the true rate; docs/architecture.md has the table."""
    generator = np.random.default_rng(20)
    held = 0
    for _ in range(500):
        runs = simulated(generator, rate, spread, images, 5, crossed, shared)
        low, high = mean_over_seeds(*runs).rate_interval()
        held += low <= rate <= high
    assert held / 500 >= 0.93


def test_without_images_that_matter_the_interval_is_students():
    """Every seed has its own rate, the same on so many images that these add nothing."""
    rates = np.array([0.30, 0.34, 0.41, 0.29, 0.38])
    values = np.arange(20_000) < np.rint(20_000 * rates[:, None])
    generator = np.random.default_rng(0)
    values = np.stack([generator.permutation(row) for row in values])
    found = mean_over_seeds(values, np.ones_like(values), range(5), range(5))
    assert found.value == pytest.approx(rates.mean())
    wanted = students_t.interval(0.95, 4, rates.mean(), rates.std(ddof=1) / math.sqrt(5))
    assert found.interval() == pytest.approx(wanted, abs=5e-4)
    log_odds = np.log(found.value / (1 - found.value))
    half = (wanted[1] - wanted[0]) / 2 / (found.value * (1 - found.value))
    odds = np.exp([log_odds - half, log_odds + half])
    assert found.rate_interval() == pytest.approx(odds / (1 + odds), abs=1e-3)


def test_seeds_that_agree_have_the_variance_of_their_images():
    values = np.tile(np.arange(400) % 4 == 0, (6, 1))
    found = mean_over_seeds(values, np.ones_like(values), range(6), range(6))
    assert found.variance == pytest.approx(0.25 * 0.75 / 399)


def test_each_run_counts_images_of_its_own():
    values = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    counted = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    found = mean_over_seeds(values, counted, range(4), range(4))
    assert found.value == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # the last run has no image
    assert found.images == 3 and found.quantile == pytest.approx(students_t.ppf(0.975, 2))


def test_all_pairs_vary_by_rows_and_by_columns():
    """The sum of what sources and victims add, whatever the other is."""
    sources, victims = np.mgrid[:4, :4].reshape(2, -1)
    rows, columns = np.array([0.1, 0.2, 0.4, 0.3]), np.array([0.1, 0.0, 0.15, 0.05])
    values = np.tile((rows[sources] + columns[victims])[:, None], (1, 10))
    found = mean_over_seeds(values, np.ones(values.shape, bool), sources, victims)
    both = (rows.var(ddof=1) + columns.var(ddof=1)) / 4
    pairs = (rows.var() + columns.var()) / 15
    assert found.variance == pytest.approx(both - pairs)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_same_in_every_image_has_a_width(rate):
    """Seeds that are all alike say nothing about other images: no [100.00, 100.00]."""
    values = np.full((5, 490), rate)
    found = mean_over_seeds(values, np.ones(values.shape, bool), range(5), range(5))
    low, high = found.rate_interval()
    assert 0 <= low <= rate <= high <= 1
    one_seed = wilson_interval(int(rate * 490), 490)
    assert 1 <= (high - low) / (one_seed[1] - one_seed[0]) < 2.5


def test_a_rate_has_an_interval_within_0_and_1_however_seeds_differ():
    values = np.zeros((3, 50))
    values[2] = 1
    found = mean_over_seeds(values, np.ones(values.shape, bool), range(3), range(3))
    low, high = found.rate_interval()
    assert 0 < low < 0.02 < 1 / 3 < 0.95 < high < 1


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_too_few_seeds_have_no_interval(seeds):
    values = np.ones((seeds, 5)) / 2
    found = mean_over_seeds(values, np.ones(values.shape, bool), range(seeds), range(seeds))
    assert np.isnan(found.interval()).all() and np.isnan(found.rate_interval()).all()
    assert np.isnan(found.value) if seeds == 0 else found.value == 0.5
