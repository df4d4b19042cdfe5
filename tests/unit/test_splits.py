"""Named index sets."""

import numpy as np
import pytest

from blindspots.data.splits import split_indices


def part(share, of="train", seed=0, key="share"):
    return {"of": of, "seed": seed, key: share}


@pytest.mark.parametrize("size", [3, 7, 1297, 60000])
@pytest.mark.parametrize("edge", [0.5, 1 / 3, 0.77])
def test_parts_that_meet_at_an_edge_cut_the_base_set_in_two(size, edge):
    """Disjoint, together the whole, and of the right sizes."""
    one, two = split_indices(part([0, edge]), size), split_indices(part([edge, 1]), size)
    assert np.array_equal(np.sort(np.concatenate([one, two])), np.arange(size))
    assert abs(len(one) - edge * size) <= 0.5


def test_indices_increase():
    indices = split_indices(part([0.2, 0.7]), 500)
    assert indices.dtype == np.int64 and (np.diff(indices) > 0).all()


def test_whole_base_set():
    assert np.array_equal(split_indices({"of": "test"}, 5), np.arange(5))


def test_parts_are_drawn_at_random():
    """A half is not the first half: its mean index is that of the whole."""
    indices = split_indices(part([0, 0.5]), 10000)
    assert abs(indices.mean() - 5000) < 150


def test_same_seed_same_part_and_another_seed_or_base_another():
    half = split_indices(part([0, 0.5]), 1000)
    assert np.array_equal(half, split_indices(part([0, 0.5]), 1000))
    for other in (part([0, 0.5], seed=1), part([0, 0.5], of="test")):
        assert len(np.intersect1d(half, split_indices(other, 1000))) < 400


def test_range_counts_positions_in_the_same_permutation_as_share():
    by_range = split_indices(part([100, 300], key="range"), 1000)
    assert len(by_range) == 200
    assert np.array_equal(by_range, split_indices(part([0.1, 0.3]), 1000))


@pytest.mark.parametrize(
    "split",
    [
        part([0, 11], key="range"),
        part([5, 5], key="range"),
        part([6, 5], key="range"),
        part([-1, 5], key="range"),
        part([0.5, 0.5]),
        part([0.8, 0.2]),
        part([0, 0.01]),
    ],
)
def test_impossible_parts_raise(split):
    with pytest.raises(ValueError):
        split_indices(split, 10)
