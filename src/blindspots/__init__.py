"""Which small changes fool a neural network, and which other networks they fool.

>>> import blindspots as bs
>>> result = bs.attack(model, images, labels)
>>> matrix = bs.transfer_matrix({"a": a, "b": b}, images, labels)
>>> matrix.error

``help(bs.attack)``, ``help(bs.transfer_matrix)`` and ``help(bs.normalized)`` say the rest. The
functions are found by name when they are first asked for, so that an import takes no time and
loads no torch, and that no step of a workflow depends on them.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

_PLACES = {
    "attack": "blindspots.notebook.attack",
    "normalized": "blindspots.notebook.normalized",
    "transfer_matrix": "blindspots.notebook.transfer",
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(_import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *_PLACES})
