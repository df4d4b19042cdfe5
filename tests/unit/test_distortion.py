"""Sizes of perturbations, and perturbations of a given size."""

import numpy as np
import pytest
import torch

from blindspots.evaluation.distortion import add_gaussian_noise, amplify, rms_distortion


@pytest.fixture
def pair():
    """Originals in [0, 1] and perturbed images; the second image is not perturbed."""
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(4, 1, 5, 6, generator=generator)
    perturbed = originals + 0.01 * torch.randn(4, 1, 5, 6, generator=generator)
    perturbed[1] = originals[1]
    return perturbed, originals


def test_rms_is_the_root_of_the_mean_square(pair):
    perturbed, originals = pair
    wanted = [
        np.sqrt(np.mean((a.double() - b.double()).numpy() ** 2))
        for a, b in zip(perturbed, originals, strict=True)
    ]
    np.testing.assert_allclose(rms_distortion(perturbed, originals).numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 7), (3, 1, 2, 2), (3, 2, 4, 4)])
def test_rms_of_a_constant_shift_is_the_shift(shape):
    images = torch.zeros(shape)
    torch.testing.assert_close(rms_distortion(images + 0.25, images), torch.full((3,), 0.25))


@pytest.mark.parametrize("level", [0.01, 0.1, 1.0])
def test_amplified_perturbations_have_the_wanted_rms(pair, level):
    """All of them but the image that was not perturbed, which stays as it is."""
    perturbed, originals = pair
    amplified = amplify(perturbed, originals, level)
    moved = torch.tensor([0, 2, 3])
    found = rms_distortion(amplified, originals)[moved]
    torch.testing.assert_close(found, torch.full((3,), level), rtol=1e-4, atol=0)
    assert torch.equal(amplified[1], originals[1])


def test_amplification_keeps_the_direction(pair):
    perturbed, originals = pair
    before, after = perturbed - originals, amplify(perturbed, originals, 0.3) - originals
    cosine = torch.cosine_similarity(before.flatten(1), after.flatten(1))
    assert (cosine[[0, 2, 3]] > 0.9999).all()


@pytest.mark.parametrize("level", [0.05, 1.0])
def test_noise_has_its_level(level):
    originals = torch.full((300, 1, 8, 8), 0.5)
    noise = add_gaussian_noise(originals, np.arange(300), level, "test", 0) - originals
    assert noise.std().item() == pytest.approx(level, rel=0.02)
    assert abs(noise.mean().item()) < 0.03 * level


def test_noise_of_another_level_is_another_draw():
    originals, indices = torch.zeros(50, 64), np.arange(50)
    one = add_gaussian_noise(originals, indices, 0.1, "test", 0) / 0.1
    other = add_gaussian_noise(originals, indices, 0.2, "test", 0) / 0.2
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.08
