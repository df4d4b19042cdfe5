"""Columns of a table of units; imports nothing, so that light steps stay light."""

FIELDS = (
    *("network", "seed", "layer", "family", "statistic", "value"),
    *("null_mean", "null_sd", "z", "p", "bases", "directions", "dead"),
)
