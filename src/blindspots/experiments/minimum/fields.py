"""Columns of a table of smallest distortions; imports nothing, so that light steps stay light."""

FIELDS = (
    *("source", "targets", "n", "success", "rms", "survives_8bit"),
    *("seed", "attack", "left_out", "success_low", "success_high", "rms_low", "rms_high"),
    *("rms_median", "rms_max", "survives_low", "survives_high", "gradients", "kkt_residual"),
)
