"""Columns of the tidy transfer table; imports nothing, so that light steps stay light."""

FIELDS = (
    "source",
    "victim",
    "seed",
    "victim_seed",
    "attack",
    "variant",
    "rms",
    "n_attacked",
    "n_failed",
    "n_fooled",
    "n_both_right",
    "n_fooled_both_right",
    "same_wrong",
    "other_wrong",
    "target_hit",
    "error",
    "low",
    "high",
)
