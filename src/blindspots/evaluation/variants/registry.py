"""The variants in which images are shown to victims: a module of this folder each.

A variant has

- ``OF``: ``"set"`` if it is made from adversarial images, ``"images"`` if from clean ones;
- ``KEY`` and ``SCHEMA``: the key of an experiment that asks for it, and what its value may be, with
  a default; None where every experiment has it;
- ``variants(value, clip)``: what that value asks for, as a list of mappings: ``kind``, the module's
  name, and all else that determines the images; with ``level`` where their RMS is known beforehand;
- ``PACKAGES``: libraries whose version may change the images, beside numpy and torch;
- ``name(variant)``: its name in the tidy table;
- ``perturb(variant, originals, adversarial, context)``: the images, from tensors (B, ...); the
  context is a `blindspots.evaluation.transfer.Context`.

Planning imports these modules, which therefore import torch inside functions alone.
"""

from importlib import import_module

MODULES = (
    "as_found",
    "amplified",
    "clean",
    "gaussian",
    "stored",
)
VARIANTS = {name: import_module(f"blindspots.evaluation.variants.{name}") for name in MODULES}


def packages_of(variants):
    """Return the libraries whose version may change some variants, beside numpy and torch."""
    return tuple(sorted({p for v in variants for p in VARIANTS[v["kind"]].PACKAGES}))


def modules_of(variants):
    """Return the names of the modules that make some variants: their code is part of a row's."""
    return tuple(sorted({VARIANTS[variant["kind"]].__name__ for variant in variants}))
