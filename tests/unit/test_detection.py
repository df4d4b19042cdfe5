"""Detection: labels of a class against all others, and how well scores tell them apart."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from blindspots.data.detection import detecting, first_of_each
from blindspots.data.facts import Facts, class_number, facts_of_part
from blindspots.evaluation.detection import area_under_roc, balanced_accuracy, mean_over_runs

FACTS = Facts("Vehicles", {"train": 10, "test": 5}, (3, 8, 8), 3, names=["car", "ship", "van"])


def drawn(seed, ones=40, zeros=160, apart=1.0, digits=None):
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.repeat([1, 0], [ones, zeros])
    scores = random.standard_normal(len(labels)) + apart * (labels - 0.5)
    return scores if digits is None else scores.round(digits), labels


@pytest.mark.parametrize("digits", [None, 1])
def test_the_means_are_the_known_numbers(digits):
    """Those of scikit-learn, with ties as well."""
    scores, labels = drawn(0, digits=digits)
    accuracy = balanced_accuracy(scores, labels).mean()
    assert accuracy == pytest.approx(balanced_accuracy_score(labels, scores > 0))
    assert area_under_roc(scores, labels).mean() == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(("of", "apart"), [(balanced_accuracy, 1.0), (area_under_roc, 1.5)])
def test_intervals_over_images_cover(of, apart):
    """About 95 of 100 hold what is true of ever more images."""
    truth = norm.cdf(apart / 2) if of is balanced_accuracy else norm.cdf(apart / 2**0.5)
    held = 0
    for seed in range(400):
        values = of(*drawn(seed, apart=apart))[None]
        low, high = mean_over_runs(values, np.ones(values.shape, bool), [0]).rate_interval()
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.98


def test_rates_without_a_mistake_have_an_end():
    values = balanced_accuracy(*drawn(0, apart=20.0))[None]
    mean = mean_over_runs(values, np.ones(values.shape, bool), [0])
    low, high = mean.rate_interval()
    assert mean.value == high == 1
    assert 0.9 < low < 1


def test_several_seeds_count_as_such():
    """Their spread makes the interval wider than that over images."""
    runs = np.stack([balanced_accuracy(*drawn(0, apart=apart)) for apart in (0.5, 1.0, 2.0)])
    counted = np.ones(runs.shape, bool)
    several = mean_over_runs(runs, counted, [0, 1, 2]).rate_interval()
    one = mean_over_runs(runs[1:2], counted[1:2], [0]).rate_interval()
    assert several[1] - several[0] > 1.5 * (one[1] - one[0])
    assert np.isnan(mean_over_runs(runs[:2], counted[:2], [0, 1]).interval()).all()


def test_detection_has_two_classes_with_names():
    facts = {"classes": 3, "names": FACTS.names, "shape": [3, 8, 8]}
    found = detecting(facts, 1)
    assert found == {"classes": 2, "names": ["not ship", "ship"], "shape": [3, 8, 8]}
    assert detecting({"classes": 10}, 8)["names"] == ["not 8", "8"]


def test_classes_by_number_or_name():
    assert [class_number(FACTS, name) for name in (0, "van", 3, "boat")] == [0, 2, None, None]
    assert facts_of_part(FACTS, {"detect": 1}).classes == 2
    assert facts_of_part(FACTS, {}) is FACTS


def test_first_of_each_label():
    labels = np.array([0, 1, 0, 0, 1, 0, 1, 1])
    indices = np.array([1, 2, 3, 4, 5, 7])
    assert first_of_each(indices, labels, 2).tolist() == [1, 2, 3, 4]
    assert first_of_each(indices, labels, 9).tolist() == indices.tolist()


def test_sizes_have_no_interval_below_zero():
    """However far apart they lie; where they lie close, it is that of any mean."""
    far = np.array([[0.001, 0.001, 0.03, 0.002, 0.001]])
    mean = mean_over_runs(far, np.ones(far.shape, bool), [0])
    assert mean.interval()[0] < 0 < mean.size_interval()[0] < mean.value < mean.size_interval()[1]
    near = np.linspace(0.99, 1.01, 50)[None]
    mean = mean_over_runs(near, np.ones(near.shape, bool), [0])
    assert mean.size_interval() == pytest.approx(mean.interval(), rel=1e-4)
    assert np.isnan(mean_over_runs(near, np.zeros(near.shape, bool), [0]).size_interval()).all()
