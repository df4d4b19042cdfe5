"""The registry of attack methods: the name in a configuration and the function behind it."""

from blindspots.attacks.best_of import best_of
from blindspots.attacks.engines import ENGINES, engine
from blindspots.attacks.external import function_name, users_own

METHODS = {**ENGINES, "best_of": best_of}


def method(name):
    """Return the attack of a name, as `blindspots.attacks.engines.engine` and ``best_of``.

    Parameters
    ----------
    name : str or callable
        A user's own function stands for itself: see `blindspots.attacks.external.users_own`.

    Raises
    ------
    ValueError
        If there is none.
    """
    if callable(name):
        return users_own(name)
    if not isinstance(name, str) or (name not in METHODS and ":" not in name):
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name] if name in METHODS else engine(name)


def method_name(attack):
    """Return what a method is called: its name in a configuration, or that of the function."""
    return attack if isinstance(attack, str) else function_name(attack)
