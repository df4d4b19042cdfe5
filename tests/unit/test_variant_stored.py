"""The variant ``stored``: its entry in a configuration, its names and its images."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from jsonschema import Draft202012Validator

from blindspots.attacks.methods import method
from blindspots.errors import UserError
from blindspots.evaluation.storage import jpeg, png, rounded, stretched, truncated
from blindspots.evaluation.variants import stored

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CAUGHT = {"capture_output": True, "text": True, "check": True}
WAYS = [
    {"as": "png"},
    {"as": "truncated"},
    {"as": "jpeg", "quality": 95},
    {"as": "jpeg", "quality": 75},
    {"as": "png", "stretch": 1.005},
    {"as": "png", "stretch": 1.01},
    {"as": "png", "stretch": 2},
    {"as": "jpeg", "quality": 95, "stretch": 1.05},
    {"as": "jpeg", "quality": 75, "stretch": 1.1},
    {"as": "png", "stretch": "survive"},
]


def problems(value):
    """Return where a value breaks the schema, and by what rule."""
    errors = Draft202012Validator(stored.SCHEMA).iter_errors(value)
    return [(list(error.absolute_path), error.validator) for error in errors]


def context(network, labels, targets, chunk=1000):
    return SimpleNamespace(
        source=network, labels=labels, targets=targets, indices=None, stream=(), chunk=chunk
    )


@pytest.fixture
def attacked(softmax, digits):
    """A network, originals, adversarial images, labels and targets."""
    images, labels = (part[:40] for part in digits)
    targets = (labels + 3) % 10
    found = method("lbfgs")(softmax, images, labels, targets=targets)
    assert found.success.all()
    return softmax, images, found.images, labels, targets


def test_the_schema_is_one_and_takes_all_ways():
    Draft202012Validator.check_schema(stored.SCHEMA)
    assert problems(WAYS) == []
    properties = stored.SCHEMA["items"]["properties"]
    assert all(rule["description"] for rule in [stored.SCHEMA, *properties.values()])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"as": "png"}, ([], "type")),
        ([{"as": "png"}, {"as": "png"}], ([], "uniqueItems")),
        ([{}], ([0], "required")),
        ([{"as": "gif"}], ([0, "as"], "enum")),
        ([{"as": "png", "level": 0.1}], ([0], "additionalProperties")),
        ([{"as": "jpeg"}], ([0], "required")),
        ([{"as": "jpeg", "quality": 0}], ([0, "quality"], "minimum")),
        ([{"as": "jpeg", "quality": 101}], ([0, "quality"], "maximum")),
        ([{"as": "png", "quality": 95}], ([0, "as"], "enum")),
        ([{"as": "png", "stretch": 1}], ([0, "stretch"], "anyOf")),
        ([{"as": "png", "stretch": "much"}], ([0, "stretch"], "anyOf")),
        ([{"as": "truncated", "stretch": "survive"}], ([0, "as"], "enum")),
        ([{"as": "jpeg", "quality": 75, "stretch": "survive"}], ([0, "as"], "enum")),
    ],
)
def test_the_schema_refuses(value, wanted):
    assert wanted in problems(value)


def test_variants_are_plain_and_their_names_unique():
    variants = stored.variants(WAYS, False)
    assert json.loads(json.dumps(variants)) == variants
    assert all(variant["kind"] == "stored" for variant in variants)
    names = [stored.name(variant) for variant in variants]
    assert len(set(names)) == len(names)
    assert names[0] == "stored_png"
    assert names[-2:] == ["stored_jpeg_75_x1.1", "stored_png_survive"]


def test_names_tell_near_numbers_apart_and_equal_ones_not():
    near = stored.variants([{"as": "png", "stretch": s} for s in (1.01, 1.01000001)], False)
    assert stored.name(near[0]) != stored.name(near[1])
    whole, point = stored.variants([{"as": "png", "stretch": s} for s in (2, 2.0)], False)
    assert json.dumps(whole) == json.dumps(point)


def test_readers_see_other_names():
    words = [stored.in_words(variant) for variant in stored.variants(WAYS, False)]
    assert words[:4] == ["PNG", "cut off", "JPEG 95", "JPEG 75"]
    assert words[4:7] == ["1.005 x, PNG", "1.01 x, PNG", "2 x, PNG"]
    assert words[7:] == ["1.05 x, JPEG 95", "1.1 x, JPEG 75", "until it survives, PNG"]


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        ({"as": "png"}, lambda x, y: rounded(y)),
        ({"as": "png"}, lambda x, y: png(y)),
        ({"as": "truncated"}, lambda x, y: truncated(y)),
        ({"as": "jpeg", "quality": 75}, lambda x, y: jpeg(y, 75)),
        ({"as": "png", "stretch": 1.1}, lambda x, y: rounded(stretched(y, x, 1.1))),
        ({"as": "jpeg", "quality": 95, "stretch": 2}, lambda x, y: jpeg(stretched(y, x, 2), 95)),
    ],
)
def test_images_are_those_of_the_way(way, wanted, attacked):
    _, originals, adversarial, labels, targets = attacked
    (variant,) = stored.variants([way], False)
    # None of these asks the network.
    images = stored.perturb(variant, originals, adversarial, context(None, labels, targets))
    assert torch.equal(images, wanted(originals, adversarial))
    assert not torch.equal(images, adversarial)


@pytest.mark.parametrize("chunk", [1000, 7])
def test_surviving_images_are_on_the_grid_and_hit_their_target(chunk, attacked):
    network, originals, adversarial, labels, targets = attacked
    (variant,) = stored.variants([{"as": "png", "stretch": "survive"}], False)
    around = context(network, labels, targets, chunk)
    images = stored.perturb(variant, originals, adversarial, around)
    assert torch.equal(images, png(images))
    answers = network(images).argmax(1)
    assert (answers == targets).all()
    assert not (network(rounded(adversarial)).argmax(1) == targets).all()


def test_without_the_source_nothing_can_be_made_to_survive(attacked):
    _, originals, adversarial, labels, targets = attacked
    (variant,) = stored.variants([{"as": "png", "stretch": "survive"}], False)
    with pytest.raises(UserError, match="stored_png_survive"):
        stored.perturb(variant, originals, adversarial, context(None, labels, targets))


def test_importing_the_variant_is_light():
    code = (
        "import sys; import blindspots.evaluation.variants.stored; "
        "print([name for name in ('torch', 'numpy', 'PIL', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, **CAUGHT)
    assert done.stdout.strip() == "[]"
