"""Adversarial images whose perturbations are scaled to a common RMS distortion."""

from blindspots.evaluation.variants.levels import LEVELS, at_levels, clipped, name_with_level

OF, KEY = "set", "amplify"
PACKAGES = ()
SCHEMA = {"description": "RMS levels to which perturbations are amplified", **LEVELS}
name = name_with_level


def variants(levels, clip):
    """Return one variant for each level and, where asked for, its clipped one."""
    return at_levels("amplified", levels, clip)


def perturb(variant, originals, adversarial, context):
    """Return the images; unless clipped, they may leave [0, 1]."""
    from blindspots.evaluation.distortion import amplify

    return clipped(variant, amplify(adversarial, originals, variant["level"]))
