"""Columns of a table of amplification; imports nothing, so that light steps stay light."""

ADVERSARIAL, SHUFFLED, GAUSSIAN, DIFFERENCE = PERTURBATIONS = (
    "adversarial",
    "shuffled",
    "gaussian",
    "difference",
)
FIELDS = (
    *("network", "seed", "layer", "perturbation", "gain", "displacement", "sigma", "bound"),
    *("n", "gain_low", "gain_high", "gain_max", "displacement_low", "displacement_high"),
    *("sigma_low", "sigma_high", "sigma_n"),
)
UNTRAINED = " (untrained)"  # behind the name of a network, whose first weights are meant
