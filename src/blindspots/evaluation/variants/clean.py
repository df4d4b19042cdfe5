"""Clean images."""

OF, KEY, SCHEMA = "images", None, None
PACKAGES = ()


def name(variant):
    """Return the name of the variant in the tidy table."""
    return variant["kind"]


def perturb(variant, originals, adversarial, context):
    """Return the images."""
    return originals
