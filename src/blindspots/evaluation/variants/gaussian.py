"""Clean images with Gaussian noise, the same for every victim."""

from blindspots.evaluation.variants.levels import LEVELS, at_levels, clipped, name_with_level

OF, KEY = "images", "noise"
PACKAGES = ()
SCHEMA = {
    "description": "Standard deviations of the Gaussian noise that is compared with",
    **LEVELS,
}
name = name_with_level


def variants(levels, clip):
    """Return one variant for each level and, where asked for, its clipped one."""
    return at_levels("gaussian", levels, clip)


def perturb(variant, originals, adversarial, context):
    """Return the images; unless clipped, they may leave [0, 1]."""
    from blindspots.evaluation.distortion import add_gaussian_noise

    noisy = add_gaussian_noise(originals, context.indices, variant["level"], *context.stream)
    return clipped(variant, noisy)
