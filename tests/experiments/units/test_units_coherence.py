"""Statistics of the top images of a direction, by hand."""

import math

import pytest
import torch

from blindspots.errors import UserError
from blindspots.experiments.units.coherence import Coherence
from blindspots.experiments.units.fields import TOP


def made(labels, images=None, reference=None):
    count = len(labels)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 3, 3, generator=generator) if images is None else images
    reference = torch.randn(count, 4, generator=generator) if reference is None else reference
    return Coherence(labels, images, reference, generator)


def test_purity_and_entropy():
    labels = torch.tensor([0] * 20 + [1] * 20 + [2] * 20)
    top = torch.tensor([range(10), [*range(5), *range(20, 25)], [*range(7), 20, 40, 41]])
    found = made(labels)(top)
    assert found["purity"].tolist() == pytest.approx([1.0, 0.5, 0.7])
    mixed = -sum(p * math.log2(p) for p in (0.7, 0.1, 0.2))
    assert found["entropy"].tolist() == pytest.approx([0.0, 1.0, mixed])


def test_distances_are_those_of_random_images_at_chance():
    labels = torch.arange(400) % 4
    chance = made(labels).chance
    assert chance["purity"] == pytest.approx(0.44, abs=0.03)
    for name in ("ref", "cosine", "pix", "beyond"):
        assert chance[name] == pytest.approx(1.0, abs=0.01)


def test_mean_distance_of_two_images():
    """Reference features on a line: of ten in a row the mean distance is 11 / 3."""
    labels = torch.arange(100) % 2
    reference = torch.arange(100.0)[:, None]
    found = made(labels, reference=reference)(torch.arange(10)[None])
    assert found["ref"].item() == pytest.approx((11 / 3) / (101 / 3), rel=0.02)


def test_size_of_features_does_not_count_for_cosine():
    labels = torch.arange(100) % 2
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(100, 4, generator=generator)
    top = torch.stack([torch.randperm(100, generator=generator)[:TOP] for _ in range(5)])
    scaled = reference * torch.linspace(0.1, 5, 100)[:, None]
    plain, large = (made(labels, reference=r)(top) for r in (reference, scaled))
    torch.testing.assert_close(plain["cosine"], large["cosine"])
    assert not torch.allclose(plain["ref"], large["ref"], rtol=0.05)


def test_beyond_class_is_one_for_random_images_of_a_class():
    """However alike the images of a class are."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    images = (labels[:, None] + 0.1 * torch.rand(600, 4, generator=generator))[:, None, None]
    same = (labels == 1).nonzero().flatten()[torch.randperm(200, generator=generator)[:50]]
    found = made(labels, images=images)(same.view(5, 10))
    assert found["pix"].max() < 0.1
    assert found["beyond"].mean().item() == pytest.approx(1.0, abs=0.1)


def test_beyond_class_is_not_known_where_a_class_has_one_image():
    labels = torch.tensor([*[0] * 30, 1])
    found = made(labels)(torch.stack([torch.arange(10), torch.arange(21, 31)]))
    assert found["beyond"][0] > 0 and torch.isfinite(found["purity"]).all()
    alone = made(torch.arange(31))(torch.arange(10)[None])
    # Of ten different classes no two images share one.
    assert torch.isfinite(alone["beyond"]).all()


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="there are 19 in all; take a split of 20 or more"):
        made(torch.arange(19) % 2)


@pytest.mark.parametrize("what", ["pixels", "features in the reference network"])
def test_images_that_are_all_alike_are_refused(what):
    given = {"images": torch.ones(30, 1, 2, 2)}
    if what != "pixels":
        given = {"reference": torch.ones(30, 4)}
    with pytest.raises(UserError, match=f"all images have the same {what}"):
        made(torch.arange(30) % 3, **given)
