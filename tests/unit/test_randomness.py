"""Draws that belong to an image, and the global generators that other people's code draws from."""

import random

import numpy as np
import pytest
import torch

from blindspots.randomness import (
    BLOCK,
    gaussian_noise,
    random_wrong_labels,
    seed_globals,
    stable_seed,
)
from blindspots.seeding import random_state, restore_random_state, seeded

INDICES = np.array([0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7, 59999])


def test_seed_is_the_same_on_every_machine():
    """A frozen value: were it to change, every published target would."""
    assert stable_seed("target", "test", 0, 3) == 82825218758339199794568399088494451482
    assert 0 <= stable_seed("a") < 2**128


def test_seed_tells_parts_apart():
    assert stable_seed("a", "b") != stable_seed("ab")
    assert stable_seed("a", 1) != stable_seed("a", 2)


@pytest.mark.parametrize("subset", [[2], [5, 0], [3, 3, 1]])
def test_draws_do_not_depend_on_the_subset(subset):
    """Noise and labels, for any subset, order and repetition of the images."""
    labels = np.arange(len(INDICES))
    noise = gaussian_noise(INDICES, (2, 3), "test", 0)
    targets = random_wrong_labels(labels, INDICES, 10, "test", 0)
    assert np.array_equal(gaussian_noise(INDICES[subset], (2, 3), "test", 0), noise[subset])
    some = random_wrong_labels(labels[subset], INDICES[subset], 10, "test", 0)
    assert np.array_equal(some, targets[subset])


def test_noise_is_standard_normal():
    """Mean, standard deviation and kurtosis of 400,000 draws, and images of their own."""
    noise = gaussian_noise(np.arange(1000), (1, 20, 20), "test", 0)
    assert noise.shape == (1000, 1, 20, 20) and noise.dtype == np.float32
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise.astype(float) ** 4).mean() - 3) < 0.1
    flat = noise.reshape(1000, -1)
    assert len(np.unique(flat, axis=0)) == 1000


@pytest.mark.parametrize("stream", [("test", 1), ("train", 0), ("test", 0, "0.1")])
def test_streams_differ(stream):
    """Another seed, base set or level gives unrelated noise."""
    one = gaussian_noise(np.arange(100), (50,), "test", 0)
    other = gaussian_noise(np.arange(100), (50,), *stream)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.06


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_random_labels_are_wrong_and_in_range(classes):
    labels = np.arange(2000) % classes
    drawn = random_wrong_labels(labels, np.arange(2000), classes, "test", 0)
    assert drawn.dtype == np.int64
    assert (drawn != labels).all() and drawn.min() == 0 and drawn.max() == classes - 1


def test_targets_are_those_published():
    """Frozen values, across two blocks: another scheme of drawing would change every table."""
    indices = np.array([0, 1, 255, 256, 9999])
    drawn = random_wrong_labels(np.zeros(5, np.int64), indices, 10, "test", 0)
    assert drawn.tolist() == [2, 4, 4, 8, 2]


def draws():
    """One number of every global generator and distribution that keeps a state."""
    python = [random.random(), random.gauss(0, 1), random.randint(0, 9)]
    arrays = [np.random.rand(), np.random.randn(), np.random.permutation(9).tolist()]
    return [*python, *arrays, torch.rand(3).tolist(), torch.randn(3).tolist()]


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63 - 1])
def test_all_global_generators_are_seeded_and_restored(seed):
    seed_globals(seed)
    wanted = draws()
    seed_globals(5)
    expected = draws(), draws()
    seed_globals(5)
    assert draws() == expected[0]
    with pytest.raises(KeyError), seeded(seed):
        assert draws() == wanted
        raise KeyError
    assert draws() == expected[1]


def test_seeds_tell_draws_apart():
    found = []
    for seed in (0, 1, 2**32, 2**33):
        with seeded(seed):
            found.append(draws())
    for kind in zip(*found, strict=True):
        if isinstance(kind[0], float):
            assert len(set(kind)) == len(found)


def test_random_state_goes_on(tmp_path):
    """Through a file of plain values, also between the two numbers of a normal draw."""
    device = torch.device("cpu")
    random.gauss(0, 1), np.random.randn()
    torch.save(random_state(device), tmp_path / "state")
    wanted = draws()
    draws()
    restore_random_state(torch.load(tmp_path / "state", weights_only=True), device)
    assert draws() == wanted
