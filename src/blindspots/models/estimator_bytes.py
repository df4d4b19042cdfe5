"""Fitted classifiers of scikit-learn as bytes and back, by skops: no pickle, no code.

What skops writes holds the addresses of objects and the time. Here the addresses are numbered and
the time is left out, so that the same classifier gives the same bytes.
"""

import io
import json
from pathlib import PurePath
from zipfile import ZipFile, ZipInfo

import skops.io
from sklearn.base import BaseEstimator, is_classifier
from skops.io.exceptions import UntrustedTypesFoundException

SCHEMA = "schema.json"
# Types that are built beside those that skops trusts by itself. They hold arrays and numbers. The
# first two skops leaves to its users, since scikit-learn follows the indices of nodes unchecked: a
# forged tree may crash the process that asks it, though it cannot run code.
TRUSTED = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)


def pack(estimator):
    """Return a fitted classifier as bytes, always the same of the same classifier.

    Parameters
    ----------
    estimator : sklearn.base.ClassifierMixin

    Returns
    -------
    bytes
        A file of skops.

    Raises
    ------
    ValueError
        If it holds what skops cannot write.
    """
    try:
        written = skops.io.dumps(estimator)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"it holds what cannot be saved: {error}") from error
    with ZipFile(io.BytesIO(written)) as found:
        names = {}
        schema = _numbered(json.loads(found.read(SCHEMA)), {}, names)
        content = io.BytesIO()
        with ZipFile(content, "w") as kept:
            for old, new in names.items():
                kept.writestr(ZipInfo(new), found.read(old))
            kept.writestr(ZipInfo(SCHEMA), json.dumps(schema, separators=(",", ":")))
    return content.getvalue()


def unpack(content):
    """Return the classifier that `pack` has made bytes of.

    Parameters
    ----------
    content : bytes
        From anywhere: nothing is built before all types in it have been looked at.

    Returns
    -------
    sklearn.base.ClassifierMixin

    Raises
    ------
    ValueError
        If there is a type in it that is not trusted, or if it is no classifier.
    """
    try:
        estimator = skops.io.loads(content, trusted=TRUSTED)
    except UntrustedTypesFoundException as error:
        foreign = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED))
        raise ValueError(f"it holds {', '.join(foreign)}, which is not trusted") from error
    except MemoryError:
        raise
    except Exception as error:  # skops says what it stumbles on, not that it is no file of its own
        raise ValueError("it holds no classifier of scikit-learn") from error
    if not (isinstance(estimator, BaseEstimator) and is_classifier(estimator)):
        raise ValueError(f"it holds no classifier, but an object of {type(estimator).__name__}")
    return estimator


def _numbered(node, numbers, names):
    """Return a part of the schema whose objects and files are numbered as they come.

    Parameters
    ----------
    node : dict, list or JSON value
    numbers : dict of int to int
        Those of the objects, by their address; completed in place.
    names : dict of str to str
        The new names of the files, by their old ones; completed in place.
    """
    if isinstance(node, list):
        return [_numbered(item, numbers, names) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _numbered(item, numbers, names) for key, item in node.items()}
    address, file = node.get("__id__"), node.get("file")
    if isinstance(address, int):
        node["__id__"] = numbers.setdefault(address, len(numbers) + 1)  # 0 would count as none
    if isinstance(file, str):
        node["file"] = names.setdefault(file, f"{len(names)}{PurePath(file).suffix}")
    return node
