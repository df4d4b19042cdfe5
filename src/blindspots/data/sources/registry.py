"""Where data sets come from: a module of this folder each.

A source has

- ``NAMES``: values of ``dataset`` that it answers to, or ``KEY`` and ``SCHEMA``: the key of a
  mapping given there that chooses it, and what each key of that mapping may hold;
- ``facts(config, root)``: `blindspots.data.facts.Facts`, from headers, asked for once a planning;
- ``options(config, root)``: what the step is told besides, on which no byte depends;
- ``PACKAGES``: libraries whose version may change what is read;
- ``load(job)``, from a `blindspots.steps.job.Job` to a `blindspots.data.facts.Dataset`, and a last
  line that makes the module the step that writes the data: ``prepare(load, names of its
  options)``.

One that runs users' code has ``references(config)`` besides: that code, each ``module:name``.

Planning imports these modules, which therefore import numpy inside functions alone.
"""

from importlib import import_module

MODULES = (
    "digits",
    "folder",
    "mnist_family",
    "module",
    "npz",
    "torchvision",
)
SOURCES = tuple(import_module(f"blindspots.data.sources.{name}") for name in MODULES)


def source_of(dataset):
    """Return the source of a value of ``dataset`` that has been checked."""
    return next(s for s in SOURCES if names(s, dataset))


def names(source, dataset):
    """Tell whether a value of ``dataset`` names a source."""
    if isinstance(dataset, dict):
        return getattr(source, "KEY", None) in dataset
    return dataset in getattr(source, "NAMES", ())
