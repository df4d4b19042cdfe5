"""Adversarial images as a file of 8 bits for each pixel leaves them.

Rounded, as in our PNGs; truncated, the error of writers that cast without rounding; as JPEG; each
also with the perturbation stretched first.
"""

OF, KEY = "set", "stored"
PACKAGES = ("pillow",)
PNG, TRUNCATED, JPEG = "png", "truncated", "jpeg"
SURVIVE = "survive"

SCHEMA = {
    "description": (
        "Ways to store adversarial images in 8 bits for each pixel, each a variant of its own. "
        "[{as: png, stretch: survive}] is what to publish"
    ),
    "type": "array",
    "default": [],
    "uniqueItems": True,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["as"],
        "properties": {
            "as": {
                "description": (
                    "png: each pixel is rounded to the nearest of 256 levels, which is all that a "
                    "PNG changes; truncated: it is cut off to the level below; jpeg: compressed"
                ),
                "enum": [PNG, TRUNCATED, JPEG],
            },
            "quality": {
                "description": "Quality of a JPEG; colour is stored at half its resolution",
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
            },
            "stretch": {
                "description": (
                    "By which factor the perturbation is lengthened before, within [0, 1]; "
                    "survive: by 1.01, and by more, or away from a third class, where an image "
                    "does not fool the source any more"
                ),
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 1, "maximum": 100},
                    {"enum": [SURVIVE]},
                ],
            },
        },
        # What does not go together is said of `as`.
        "dependentSchemas": {"quality": {"properties": {"as": {"enum": [JPEG]}}}},
        "allOf": [
            {
                "if": {"properties": {"as": {"const": JPEG}}, "required": ["as"]},
                "then": {"required": ["quality"]},
            },
            {
                "if": {"properties": {"stretch": {"const": SURVIVE}}, "required": ["stretch"]},
                "then": {"properties": {"as": {"enum": [PNG]}}},
            },
        ],
    },
}


def variants(value, clip):
    """Return the variants that an experiment's entry asks for.

    Parameters
    ----------
    value : list of dict
        As `SCHEMA` describes it.
    clip : bool
        Not looked at: what is stored is within [0, 1].

    Returns
    -------
    list of dict
    """
    found = []
    for way in value:
        variant = {"kind": KEY, **way}
        if way.get("stretch", SURVIVE) != SURVIVE:
            variant["stretch"] = float(way["stretch"])  # 2 and 2.0 are one variant
        found.append(variant)
    return found


def name(variant):
    """Return the name of a variant in the tidy table, such as ``stored_jpeg_75_x1.1``."""
    parts = [KEY, variant["as"]]
    if "quality" in variant:
        parts.append(str(variant["quality"]))
    if "stretch" in variant:
        stretch = variant["stretch"]
        parts.append(stretch if stretch == SURVIVE else f"x{stretch!r}")
    return "_".join(parts)


def in_words(variant):
    """Return the name of a variant that readers see, such as ``1.1 x, JPEG 75``."""
    formats = {PNG: "PNG", TRUNCATED: "cut off", JPEG: f"JPEG {variant.get('quality')}"}
    stored, stretch = formats[variant["as"]], variant.get("stretch")
    if stretch is None:
        return stored
    return f"{'until it survives' if stretch == SURVIVE else f'{stretch:.15g} x'}, {stored}"


def perturb(variant, originals, adversarial, context):
    """Return adversarial images as they are read back from files.

    Parameters
    ----------
    variant : dict
        One of `variants`.
    originals, adversarial : torch.Tensor of float32, shape (B, C, H, W)
        In [0, 1].
    context : object
        To stretch until images survive: ``source``, the network attacked; ``labels`` and
        ``targets`` (or None) of the images; ``chunk``, how many are shown to it together.

    Returns
    -------
    torch.Tensor of float32, shape (B, C, H, W)

    Raises
    ------
    UserError
        If images are to survive, and the network attacked is not known.
    """
    from blindspots.evaluation.storage import jpeg, rounded, stretched, truncated

    stretch = variant.get("stretch")
    if stretch == SURVIVE:
        return _surviving(variant, originals, adversarial, context)
    images = adversarial if stretch is None else stretched(adversarial, originals, stretch)
    if variant["as"] == JPEG:
        return jpeg(images, variant["quality"])
    return {PNG: rounded, TRUNCATED: truncated}[variant["as"]](images)


def _surviving(variant, originals, adversarial, context):
    import torch

    from blindspots.errors import UserError
    from blindspots.evaluation.storage import stretch_to_survive
    from blindspots.models.admission import admit
    from blindspots.models.state import frozen

    if context.source is None:
        raise UserError(
            f"{name(variant)} asks the network that was attacked whether an image survives, and "
            "these images come without one; give stretch a number"
        )
    images = []
    with frozen(context.source):
        model = admit(context.source, originals, name="the source model")
        for start in range(0, len(originals), context.chunk):
            part = slice(start, start + context.chunk)
            goal = None if context.targets is None else context.targets[part]
            found = stretch_to_survive(
                model, adversarial[part], originals[part], context.labels[part], goal
            )
            images.append(found.images)
    return torch.cat(images)
