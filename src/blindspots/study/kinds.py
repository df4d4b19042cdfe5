"""The kinds of experiments: a folder of `blindspots.experiments` each."""

from blindspots.experiments.transfer import plan as transfer

DEFAULT = "transfer"
KINDS = {DEFAULT: transfer}
