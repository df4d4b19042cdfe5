"""8-bit storage of images, and perturbations that survive it."""

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from blindspots.attacks.methods import method
from blindspots.evaluation.intervals import wilson_interval
from blindspots.evaluation.storage import (
    LEVELS,
    from_levels,
    guaranteed_margin,
    jpeg,
    png,
    refuse_truncated,
    rounded,
    rounding_deviation,
    statistical_margin,
    storage_margins,
    stretch_to_survive,
    stretched,
    to_levels,
    truncated,
)
from blindspots.evaluation.storage_table import storage_table


def random_images(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Plane(torch.nn.Module):
    """Logits 0 and w.x - b, with one w and one b for each image of a batch."""

    def __init__(self, weight, offset):
        super().__init__()
        self.weight, self.offset = weight, offset

    def forward(self, images):
        value = (images.flatten(1) * self.weight).sum(1) - self.offset
        return torch.stack([torch.zeros_like(value), value], 1).float()


def on_the_boundary(count=400, side=28, length=1.0):
    """Random planes, and images that are exactly on them, at a given distance of the originals."""
    generator = torch.Generator().manual_seed(1)
    originals = 0.25 + 0.5 * random_images(count, 1, side, side, seed=2)
    weight = torch.randn(count, side * side, generator=generator)
    weight /= weight.norm(dim=1, keepdim=True)
    images = originals + length * weight.view_as(originals)
    offset = (images.double().flatten(1) * weight.double()).sum(1)
    return Plane(weight.double(), offset), images, originals


def on_the_grid(images):
    return torch.equal(from_levels((images * LEVELS).round().to(torch.uint8)), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_rounding_bit_for_bit(channels):
    images = random_images(5, channels, 9, 7)
    images[0], images[1] = 0, 1
    assert torch.equal(png(images), rounded(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_what_another_writer_makes_of_the_levels(channels):
    """Rows, columns and channels stay where they are."""
    images = random_images(2, channels, 4, 6)
    for image, levels in zip(png(images), to_levels(images), strict=True):
        file = io.BytesIO()
        pixels = levels.numpy().transpose(1, 2, 0)
        Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(file, "PNG")
        read = np.asarray(Image.open(file)).reshape(4, 6, channels).transpose(2, 0, 1)
        assert np.array_equal(read.astype(np.float32) / np.float32(255), image.numpy())


def test_every_level_is_kept_and_halves_go_to_the_even_one():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_levels(from_levels(levels)), levels)
    halves = (torch.tensor([0.5, 1.5, 2.5, 254.5], dtype=torch.float64) / 255).view(1, 1, 2, 2)
    assert to_levels(halves).flatten().tolist() == [0, 2, 2, 254]


def test_rounding_moves_a_pixel_by_half_a_level_at_most():
    images = random_images(4, 1, 50, 50)
    error = rounded(images) - images
    assert error.abs().max() <= 0.5 / 255 + 1e-7
    assert error.std().item() == pytest.approx(1 / (255 * math.sqrt(12)), rel=0.02)
    assert abs(error.mean().item()) < 5e-5


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
@pytest.mark.parametrize("store", [rounded, truncated, png])
def test_what_no_byte_can_hold_is_refused(store, value):
    """Cast without a look, 1.01 would become 0."""
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        store(torch.full((1, 1, 2, 2), value))


@pytest.mark.parametrize("store", [png, lambda images: jpeg(images, 90)])
def test_other_channels_than_one_or_three_are_refused(store):
    with pytest.raises(ValueError, match="not 2"):
        store(torch.zeros(1, 2, 4, 4))


def test_truncation_cuts_off_and_is_refused():
    images = (torch.tensor([10.0, 10.4, 10.6, 255.0]) / 255).view(1, 1, 2, 2)
    cut = truncated(images)
    assert (cut * 255).round().flatten().tolist() == [10, 10, 10, 255]
    refuse_truncated(rounded(images), images)
    with pytest.raises(ValueError, match="1 of 1 stored images"):
        refuse_truncated(cut, images)


def test_truncation_loses_what_rounding_keeps():
    """The second class begins between two levels, and the pixel is nearer to the upper one."""
    network = Plane(torch.ones(1, 1), torch.tensor([100.6 / 255]))
    image = torch.full((1, 1, 1, 1), 100.9 / 255)
    assert network(image).argmax() == network(rounded(image)).argmax() == 1
    assert network(truncated(image)).argmax() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_loses_more_the_lower_its_quality(channels):
    smooth = torch.linspace(0.1, 0.9, 16)
    images = (smooth[:, None] * smooth).expand(2, channels, 16, 16)
    images = (images + 0.05 * random_images(2, channels, 16, 16)).clamp(0, 1)
    lost = [(jpeg(images, quality) - images).square().mean().sqrt() for quality in (95, 75, 10)]
    assert 0 < lost[0] < lost[1] < lost[2] < 0.1
    assert on_the_grid(jpeg(images, 75))


def test_jpeg_halves_the_resolution_of_colour():
    """Columns of the same grey in two colours: what tells them apart is lost."""
    images = torch.zeros(1, 3, 16, 16)
    images[:, 0, :, ::2] = 1.0  # brightness .299 R + .587 G + .114 B
    images[:, 1, :, 1::2] = 0.299 / 0.587
    assert (jpeg(images, 100) - images).abs().mean() > 0.1


def test_a_stretch_lengthens_within_the_box():
    originals = torch.tensor([0.5, 0.98, 0.1]).view(1, 1, 1, 3)
    images = torch.tensor([0.6, 1.0, 0.0]).view(1, 1, 1, 3)
    wanted = torch.tensor([0.7, 1.0, 0.0]).view(1, 1, 1, 3)
    torch.testing.assert_close(stretched(images, originals, 2.0), wanted)


def test_rounding_never_changes_a_linear_function_by_more_than_the_bound():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(300, 784, generator=generator, dtype=torch.float64)
    images = random_images(300, 784, seed=4, dtype=torch.float64)
    change = (weight * ((images * 255).round() / 255 - images)).sum(1)
    bound = guaranteed_margin(weight)
    assert (change.abs() <= bound).all()
    torch.testing.assert_close(bound, weight.abs().sum(1) / 510)
    # Reached where every pixel is half-way, up to the side on which halves fall.
    halves = (torch.full((1, 784), 100.5, dtype=torch.float64) + torch.sign(weight) * 1e-9) / 255
    worst = (weight * ((halves * 255).round() / 255 - halves)).sum(1)
    torch.testing.assert_close(worst, bound, rtol=1e-6, atol=0)


def test_rounding_changes_a_linear_function_by_its_standard_deviation():
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(1, 784, generator=generator, dtype=torch.float64)
    images = random_images(4000, 784, seed=6, dtype=torch.float64)
    change = ((images * 255).round() / 255 - images) @ weight[0]
    deviation = rounding_deviation(weight)[0].item()
    assert change.std().item() == pytest.approx(deviation, rel=0.04)  # of 4000: 1.1 %
    assert deviation == pytest.approx(weight.norm().item() / (255 * math.sqrt(12)))
    assert (change.abs() < statistical_margin(weight)).float().mean() > 0.999


def test_a_stretch_by_one_percent_survives_where_half_of_the_images_did_not():
    network, images, originals = on_the_boundary()
    plain = network(rounded(images)).argmax(1) == 1
    assert 0.4 < plain.float().mean() < 0.6
    one = network(rounded(stretched(images, originals, 1.01))).argmax(1) == 1
    assert one.float().mean() >= 0.995
    # |w| and |r| are 1, so that the margin left is .01.
    assert 2 * statistical_margin(network.weight).max() < 0.01


def test_a_margin_above_the_guaranteed_one_survives():
    network, images, originals = on_the_boundary(length=1.0)
    bound = guaranteed_margin(network.weight)
    safe = originals + (images - originals) * (1 + 1.01 * bound.float()).view(-1, 1, 1, 1)
    assert (network(rounded(safe)).argmax(1) == 1).all()


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "untargeted"])
@pytest.mark.parametrize("trained", ["softmax", "mlp"])
def test_nearly_all_smallest_perturbations_are_made_to_survive(trained, targeted, digits, request):
    network = request.getfixturevalue(trained)
    images, labels = (part[:300] for part in digits)
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    goal = (labels + 1) % 10 if targeted else None
    attacked = method("lbfgs")(network, images, labels, targets=goal)
    assert attacked.success.all()
    found = stretch_to_survive(network, attacked.images, images, labels, goal)
    with torch.no_grad():
        answers = network(found.images).argmax(1)
        plain = network(rounded(attacked.images)).argmax(1)
    hit = answers == goal if targeted else answers != labels
    assert on_the_grid(found.images)
    assert torch.equal(hit, found.survived)
    assert found.survived.float().mean() >= 0.995
    kept = plain == goal if targeted else plain != labels
    assert kept.float().mean() < 0.9
    # Nobody was made much larger for it.
    before = (attacked.images - images).flatten(1).norm(dim=1)
    after = (found.images - images).flatten(1).norm(dim=1)
    assert (after / before).mean() < 1.05


def test_each_image_takes_the_first_factor_that_suffices():
    network, images, originals = on_the_boundary(count=60)
    weight, offset = network.weight, network.offset.clone()
    # The boundary is put where a perturbation of so many times the length would meet it.
    offset += torch.linspace(-0.02, 0.15, 60)
    labels, targets = torch.zeros(60, dtype=torch.int64), torch.ones(60, dtype=torch.int64)
    network = Selecting(weight, offset, originals)
    factors = (1.01, 1.05, 1.1)
    found = stretch_to_survive(network, images, originals, labels, targets, factors)
    wanted = torch.full((60,), torch.nan)
    for factor in reversed(factors):
        wins = network(rounded(stretched(images, originals, factor))).argmax(1) == 1
        wanted = torch.where(wins, factor, wanted)
    torch.testing.assert_close(found.factors, wanted, equal_nan=True)
    assert {1.01, 1.05, 1.1} == {round(f, 3) for f in found.factors.tolist() if f == f}
    # Those that no stretch helps are projected.
    assert found.factors.isnan().any()
    assert found.survived.all()


class Selecting(torch.nn.Module):
    """As `Plane`, for any part of the batch: the plane is that of the nearest original."""

    def __init__(self, weight, offset, originals):
        super().__init__()
        self.plane, self.originals = Plane(weight, offset), originals.flatten(1)

    def forward(self, images):
        nearest = torch.cdist(images.detach().flatten(1), self.originals).argmin(1)
        return Plane(self.plane.weight[nearest], self.plane.offset[nearest])(images)


def test_a_third_class_that_no_stretch_gets_away_from():
    """On the corner of three classes, of which the third gains as the perturbation grows.

    With x and y the means of the two rows of pixels, the label wins where x < .5, the target has
    the rest where y > .5 + .6 (x - .5), and the third class what is left.
    """
    mean = torch.full((100,), 0.01)
    x, y = (torch.cat(rows) for rows in ((mean, 0 * mean), (0 * mean, mean)))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(200, 3))
    network[1].weight.data = torch.stack([0 * x, 10 * x, 16 * x - 10 * y])
    network[1].bias.data = torch.tensor([0.0, -5.0, -3.0])
    network.requires_grad_(False)
    texture = 0.05 * torch.randn(2, 100, generator=torch.Generator().manual_seed(7))
    texture -= texture.mean(1, keepdim=True)
    original = (torch.tensor([[0.2], [0.42]]) + texture).view(1, 1, 2, 100)
    labels, targets = torch.tensor([0]), torch.tensor([1])
    attacked = method("lbfgs")(network, original, labels, targets=targets)
    assert attacked.success.all()
    factors = (1.01, 1.02, 1.05)
    for factor in factors:
        assert network(stretched(attacked.images, original, factor)).argmax(1) == 2
    found = stretch_to_survive(network, attacked.images, original, labels, targets, factors)
    assert found.survived.all()
    assert found.factors.isnan().all()
    assert network(found.images).argmax(1) == 1
    assert (found.images - original).norm() < 1.05 * (attacked.images - original).norm()


def test_what_cannot_survive_is_said_not_to():
    """Of a network that answers with the target nowhere on the grid."""

    def network(images):
        off = ((images * 255) - (images * 255).round()).abs().amax((1, 2, 3))
        return torch.stack([torch.full_like(off, 1e-3), off], 1)

    originals = rounded(random_images(3, 1, 4, 4))
    images = (originals + 0.3 / 255).clamp(0, 1)
    labels, targets = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    assert (network(images).argmax(1) == 1).all()
    found = stretch_to_survive(network, images, originals, labels, targets)
    assert not found.survived.any() and found.factors.isnan().all()
    assert torch.equal(found.images, rounded(images))


def test_failed_attacks_do_not_survive():
    """Their images are the originals; untargeted sets say -1 for the label reached."""
    network, images, originals = on_the_boundary(count=3)
    network = Selecting(network.weight, network.offset - 0.1, originals)
    images[0] = originals[0]
    network.plane.offset[0] = -1e3  # the network errs, but nothing was found
    labels, targets = torch.zeros(3, dtype=torch.int64), torch.tensor([1, 1, -1])
    found = stretch_to_survive(network, images, originals, labels, targets)
    assert found.survived.tolist() == [False, True, False]
    assert torch.equal(found.images[0], rounded(originals)[0])


def test_margins_of_a_linear_network(softmax, digits):
    images, labels = (part[:50] for part in digits)
    goal = (labels + 1) % 10
    attacked = method("lbfgs")(softmax, images, labels, targets=goal)
    found = storage_margins(softmax, attacked.images, images, labels, goal)
    weight = next(p for p in softmax.parameters() if p.ndim == 2).detach()
    logits = softmax(attacked.images).detach()
    others = logits.scatter(1, goal[:, None], -torch.inf)
    wanted = weight[goal] - weight[others.argmax(1)]
    length = (attacked.images - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(found["guaranteed"], wanted.abs().sum(1) / 510)
    torch.testing.assert_close(found["statistical"], 4 * wanted.norm(dim=1) / (255 * 12**0.5))
    torch.testing.assert_close(
        found["statistical_share"], 4 / (255 * 12**0.5 * length), rtol=1e-4, atol=0
    )
    margin = logits.gather(1, goal[:, None])[:, 0] - others.amax(1)
    torch.testing.assert_close(found["margin"], margin, rtol=0, atol=1e-4)


def cells(**changed):
    """Cells of one source with 10 images attacked, of which the attack failed on 2."""
    rows = []
    for variant, hit, fooled in (
        ("as_found", 8, 8),
        ("stored_png", 4, 5),
        ("amplified", 7, 7),
        ("stored_truncated", 0, 0),
    ):
        for victim in ("M1", "M2"):
            row = {"source": "M1", "victim": victim, "seed": 0, "victim_seed": 0}
            row |= {
                "attack": "lbfgs",
                "variant": variant,
                "n_attacked": 10,
                "n_failed": 2,
                "n_fooled": fooled,
            }
            rows.append(row | {"target_hit": hit if victim == "M1" else 1} | changed)
    return pd.DataFrame(rows)


def test_the_table_counts_over_attacked_images_and_over_successes():
    table = storage_table(cells())
    assert table.ways == ["as_found", "stored_png", "stored_truncated"]
    assert table.values["of"].tolist() == ["attacked", "successes"]
    assert table.values["images"].tolist() == [10, 8]
    assert table.values["stored_png"].tolist() == [0.4, 0.5]
    assert table.values["stored_truncated"].tolist() == [0, 0]
    for row, total in enumerate((10, 8)):
        bounds = table.low["stored_png"][row], table.high["stored_png"][row]
        assert bounds == wilson_interval(4, total)


def test_the_table_of_an_untargeted_attack_counts_what_is_fooled():
    assert storage_table(cells(), counted="n_fooled").values["stored_png"].tolist() == [0.5, 0.625]


def test_the_table_has_a_pair_of_rows_for_each_source_and_seed():
    other = cells().replace({"source": {"M1": "M2"}})
    table = storage_table(
        pd.concat([cells(), cells(seed=1, victim_seed=1), other], ignore_index=True)
    )
    rows = table.values[["source", "seed"]].drop_duplicates().to_numpy().tolist()
    assert rows == [["M1", 0], ["M1", 1], ["M2", 0]]
    assert table.values["stored_png"].tolist() == [0.4, 0.5, 0.4, 0.5, 0.1, 0.125]


def test_no_success_is_no_share():
    table = storage_table(cells(n_failed=10, target_hit=0))
    assert table.values["stored_png"][0] == 0
    assert math.isnan(table.values["stored_png"][1])
    assert math.isnan(table.low["stored_png"][1])


def test_margins_stand_beside_the_shares():
    margins = pd.DataFrame([{"source": "M1", "seed": 0, "margin": 0.03}])
    assert storage_table(cells(), margins=margins).values["margin"].tolist() == [0.03, 0.03]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (cells(variant="as_found"), "no source has stored"),
        (pd.concat([cells(), cells()], ignore_index=True), "twice"),
        (cells(target_hit=None), "no target_hit"),
    ],
)
def test_cells_that_make_no_table_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        storage_table(rows)
