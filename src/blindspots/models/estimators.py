"""Classifiers of scikit-learn: made from a configuration, fitted, and linear ones as networks."""

import copy
import importlib
import inspect
import json
import warnings
from difflib import get_close_matches

import numpy as np
import torch
from joblib import parallel_config
from sklearn.base import BaseEstimator, is_classifier

from blindspots.errors import UserError
from blindspots.models.networks import build_network
from blindspots.models.predictions import at_most
from blindspots.randomness import stable_seed
from blindspots.seeding import seeded

SOFTMAX = {"kind": "softmax"}


def make(reference, options, seed):
    """Make a classifier that is not fitted yet.

    Parameters
    ----------
    reference : str
        ``package.module:name``: a class of scikit-learn or a function of a user's own.
    options : dict
        Its keyword arguments.
    seed : int
        Where the classifier, or a part of it, has a ``random_state`` that is None, it is drawn
        from this.

    Returns
    -------
    sklearn.base.ClassifierMixin
        It asks for no threads (``n_jobs``) of its own.

    Raises
    ------
    UserError
        If there is no such thing, it does not take the options, or makes no classifier.
    """
    module, _, name = reference.partition(":")
    try:
        with seeded(seed):
            factory = getattr(importlib.import_module(module), name, None)
            if factory is None:
                raise UserError(f"{reference}: the module has no {name!r}")
            _check_options(reference, factory, options)
            estimator = factory(**copy.deepcopy(options))
    except (MemoryError, OSError, UserError):
        raise
    except Exception as error:
        raise UserError(f"{reference} failed: {_line(error)}") from error
    if not (isinstance(estimator, BaseEstimator) and is_classifier(estimator)):
        raise UserError(
            f"{reference} returned {type(estimator).__name__}, not a classifier of scikit-learn"
        )
    for key, value in sorted(estimator.get_params().items()):
        part = key.rpartition("__")[2]
        if part == "random_state" and value is None:
            estimator.set_params(**{key: stable_seed("estimator", key, seed) % 2**32})
        elif part == "n_jobs" and value is not None:
            estimator.set_params(**{key: None})
    return estimator


def fit(reference, estimator, rows, labels, seed, threads):
    """Fit a classifier in place.

    Parameters
    ----------
    reference : str
        What sentences call it.
    estimator : sklearn.base.ClassifierMixin
        As `make` returns it.
    rows : ndarray of float64, shape (N, C H W)
        As of `blindspots.models.predictions.rows_of`.
    labels : ndarray of int64, shape (N,)
    seed : int
        Of what is drawn from the global generators.
    threads : int

    Returns
    -------
    list of str
        What it warned of, each once: that it has not converged, for instance.

    Raises
    ------
    UserError
        If it refuses its options or the images.
    """
    try:
        # Threads and no processes, and only where the classifier can use several.
        with (
            warnings.catch_warnings(record=True) as caught,
            parallel_config("threading", n_jobs=threads),
            at_most(threads),
            seeded(seed),
        ):
            warnings.simplefilter("always")
            estimator.fit(rows, labels)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise UserError(f"{reference} cannot be fitted: {_line(error)}") from error
    return sorted({_one_line(warning.message) for warning in caught})


def softmax_of(estimator, shape, classes):
    """Return a linear classifier as a softmax network: its scores are the logits.

    Of two classes there is one score s, positive for the second: the logits are -s/2 and s/2.

    Parameters
    ----------
    estimator : sklearn.base.ClassifierMixin
        Fitted; one of `blindspots.models.classifiers.LINEAR`.
    shape : tuple of int
        Shape of one image, (C, H, W).
    classes : int

    Returns
    -------
    torch.nn.Module
        Its argmax is what ``predict`` says, where rounding to float32 makes no other one of it.

    Raises
    ------
    ValueError
        If it has not seen every class, for which it then has no score, or is not finite.
    """
    missing = sorted(set(range(classes)) - set(estimator.classes_.tolist()))
    if missing:
        raise ValueError(
            f"it has seen no image of class {', '.join(map(str, missing))}, for which it then has "
            "no score"
        )
    weight = np.atleast_2d(estimator.coef_)  # of two classes some have a row, some a vector
    bias = np.broadcast_to(estimator.intercept_, len(weight))
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError("its weights are not all finite")
    network = build_network(SOFTMAX, shape, classes, seed=0)
    state = {"1.weight": torch.tensor(weight), "1.bias": torch.tensor(bias)}
    network.load_state_dict(state)
    return network


def facts_of(estimator):
    """Return what is known of a fitted classifier, for its record.

    Returns
    -------
    dict
        ``parameters``: those of it that JSON can hold, defaults included; ``iterations`` and
        ``support_vectors`` (of each class), where it counts any.
    """
    parameters = estimator.get_params(deep=False).items()
    found = {"parameters": {name: value for name, value in parameters if _is_plain(value)}}
    for name, attribute in (("iterations", "n_iter_"), ("support_vectors", "n_support_")):
        count = getattr(estimator, attribute, None)
        if count is not None:
            found[name] = np.asarray(count).tolist()
    return found


def _check_options(reference, factory, options):
    """Raise UserError if a class or function does not take an option."""
    parameters = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            near = get_close_matches(name, parameters, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"{reference} has no option {name!r}{hint}; known: {', '.join(parameters)}"
            )


def _is_plain(value):
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _line(error):
    reason = _one_line(error)
    if isinstance(error, ValueError | ImportError) and reason:
        return reason
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _one_line(message):
    return " ".join(str(message).split())
