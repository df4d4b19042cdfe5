"""How models come about: a module of this folder each.

A maker has

- ``KEY``: the key of a model's entry by which it is chosen; None for the one that is chosen else;
- ``SCHEMA``: JSON schema of an entry, but for label and description, which every model may have;
- ``takes(entry, facts)``: the shape of the images that a model takes, and its classes;
- ``seeded(entry)``: whether a model is made anew for every seed of a study;
- ``differentiable(entry)``: whether it is a network, whose gradients attacks follow and whose
  layers can be measured; of a model that is none, images go in and answers come out;
- ``problems(where, entry, config, facts)``: sentences on what is wrong with an entry;
- ``inputs(study, entry, seed)``: jobs that it builds on, by name: the data, other models, sets;
- ``settings(study, entry, seed)``: what else determines its bytes;
- ``options(study, entry)``: what the step is told besides, on which no byte depends;
- ``references(entry)``: users' code that runs;
- ``MODULE``: the step; as a rule the module itself, whose last lines run it.

Planning imports these modules, which therefore import torch inside functions alone.
"""

from importlib import import_module

MODULES = (
    "trained",
    "weights",
    "estimator",
    "quocnet",
)
MAKERS = {name: import_module(f"blindspots.models.makers.{name}") for name in MODULES}


def maker_of(entry):
    """Return the maker of a model's entry."""
    chosen = (maker for maker in MAKERS.values() if maker.KEY and maker.KEY in entry)
    return next(chosen, MAKERS["trained"])
