"""The kinds of experiments: a folder of `blindspots.experiments` each."""

from blindspots.experiments.frames import plan as frames
from blindspots.experiments.transfer import plan as transfer

DEFAULT = "transfer"
KINDS = {"transfer": transfer, "frames": frames}
