"""The kinds of experiments: a folder of `blindspots.experiments` each.

The ``plan.py`` of a kind has

- ``SCHEMA``: JSON schema of an entry of ``experiments``, but for kind and title, which every
  experiment may have;
- ``problems(config, entries, facts, reference_files)``: sentences on what is wrong with entries;
- ``jobs(study, entries)``: the jobs that the entries that are run ask for;
- ``RULES``: the functions that describe the jobs of each rule (`blindspots.study.jobs.makes`).

Planning imports these modules, which therefore import neither torch nor numpy.
"""

from importlib import import_module

DEFAULT = "transfer"
NAMES = (
    "transfer",
    "frames",
    "units",
    "quocnet",
    "amplification",
    "minimum",
)
KINDS = {name: import_module(f"blindspots.experiments.{name}.plan") for name in NAMES}
