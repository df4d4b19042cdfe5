"""The registry of attack methods: the name in a configuration and the function behind it."""

from blindspots.attacks.best_of import best_of
from blindspots.attacks.engines import ENGINES, engine

METHODS = {**ENGINES, "best_of": best_of}


def method(name):
    """Return the attack of a name, as `blindspots.attacks.engines.engine` and ``best_of``."""
    return METHODS[name] if name in METHODS else engine(name)
