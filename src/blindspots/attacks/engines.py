"""The engines: single attacks by the names that a configuration gives them."""

from blindspots.attacks.ddn import ddn
from blindspots.attacks.external import external
from blindspots.attacks.lbfgs import lbfgs

ENGINES = {"lbfgs": lbfgs, "ddn": ddn}


def engine(method):
    """Return the attack of a name; names with a colon are those of other libraries and users.

    Raises
    ------
    ValueError
        If there is none.
    """
    if ":" in method:
        return external(method)
    if method not in ENGINES:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(ENGINES)}")
    return ENGINES[method]
