"""Layers of QuocNet, against closed forms."""

import pytest
import torch

from blindspots.models.networks import build_network
from blindspots.models.quocnet import L2Pool, LocalContrastNorm, features_digest

STAGES = [
    {"filters": 6, "kernel": 3, "pool": 2, "stride": 1},
    {"filters": 5, "kernel": 2, "pool": 2, "stride": 2},
]


def maps(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 1, 5, 7), (3, 8, 2, 2)])
@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, -2.5), (0.02, 7.0)])
def test_contrast_is_the_same_whatever_light_and_scale(shape, scale, shift):
    norm, images = LocalContrastNorm(), maps(*shape)
    torch.testing.assert_close(norm(scale * images + shift), norm(images), rtol=1e-9, atol=1e-9)


def test_contrast_knows_signs():
    norm, images = LocalContrastNorm(), maps(2, 3, 6, 6)
    torch.testing.assert_close(norm(-images), -norm(images))


def test_contrast_of_a_map_in_the_middle():
    """By hand, far from the edge: Gaussian weights over space, all maps alike."""
    images = maps(1, 3, 9, 9)
    places = torch.arange(-2, 3, dtype=torch.float64)
    line = torch.exp(-places.square() / (2 * 1.5**2))
    window = torch.outer(line, line) / torch.outer(line, line).sum()

    def local(values, row, column):
        part = values[0, :, row - 2 : row + 3, column - 2 : column + 3]
        return (part.mean(0) * window).sum()

    centred = torch.stack(
        [images[0, :, r, c] - local(images, r, c) for r in range(2, 7) for c in range(2, 7)], 1
    ).view(1, 3, 5, 5)
    deviation = local(centred.square(), 2, 2).sqrt()
    found = LocalContrastNorm()
    # The image's mean deviation is what no smaller one counts as; here it is known from outside.
    answer = found(images)[0, :, 4, 4]
    share = answer / (centred[0, :, 2, 2] / deviation)
    torch.testing.assert_close(share, share[:1].expand(3))
    assert 0 < share[0] <= 1 + 1e-5  # the window's weights are float32


def test_flat_maps_stay_flat_and_have_a_gradient():
    images = torch.full((2, 3, 5, 5), 0.7, requires_grad=True)
    answer = LocalContrastNorm()(images)
    answer.sum().backward()
    assert answer.abs().max() < 1
    assert bool(images.grad.isfinite().all())


@pytest.mark.parametrize(("size", "stride"), [(5, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("value", [-2.0, 0.5])
def test_pool_of_a_constant(size, stride, value):
    pooled = L2Pool(size, stride, epsilon=0.0)(torch.full((2, 3, 11, 11), value).double())
    torch.testing.assert_close(pooled, torch.full_like(pooled, size * abs(value)))
    almost = L2Pool(size, stride)(torch.full((1, 1, 11, 11), value))
    assert almost[0, 0, 0, 0].item() == pytest.approx(size * abs(value), rel=1e-3)


def test_pool_is_the_norm_of_each_window():
    images = maps(2, 3, 7, 7)
    pooled = L2Pool(3, 2, epsilon=0.0)(images)
    torch.testing.assert_close(pooled[1, 2, 1, 2], images[1, 2, 2:5, 4:7].norm())


def test_pool_has_a_gradient_at_zero():
    images = torch.zeros(1, 1, 5, 5, requires_grad=True)
    L2Pool(5, 1)(images).sum().backward()
    assert bool(images.grad.isfinite().all())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12)])
def test_images_become_logits(shape):
    network = build_network({"kind": "quocnet", "stages": STAGES}, shape, 2, seed=0)
    assert network(torch.rand(4, *shape)).shape == (4, 2)
    again = build_network({"kind": "quocnet", "stages": STAGES}, shape, 2, seed=0)
    again.load_state_dict(network.state_dict())
    assert features_digest(again) == features_digest(network)


def test_the_digest_is_of_all_filters_and_of_these_alone():
    network = build_network({"kind": "quocnet", "stages": STAGES}, (1, 8, 8), 2, seed=0)
    before = features_digest(network)
    with torch.no_grad():
        network[-1].weight += 1
        assert features_digest(network) == before
        network[1][0].bias[0] += 1
        assert features_digest(network) != before


def test_without_stages_it_is_a_linear_classifier_of_pixels():
    network = build_network({"kind": "quocnet", "stages": []}, (1, 4, 4), 3, seed=0)
    images = torch.rand(2, 1, 4, 4)
    wanted = images.flatten(1) @ network[-1].weight.T + network[-1].bias
    torch.testing.assert_close(network(images), wanted)
