"""Columns of a table of units, and how many images a direction has; imports nothing."""

TOP = 10  # images of a direction, as in figures 1 to 4 of Szegedy et al. 2013

FIELDS = (
    *("network", "seed", "layer", "family", "statistic", "value"),
    *("null_mean", "null_sd", "z", "p", "bases", "directions", "dead"),
)
