"""Attacks of other libraries and of users, behind the interface of this package.

They are given copies, and what they change of the model and of torch is put back. What comes back
is not taken on trust: images outside the box and images that are not numbers count
as failures, success is measured by a forward pass of our own with the same margin as for our own
attacks, and the KKT residual is computed like theirs.
"""

import copy
import inspect
from importlib.util import find_spec

import torch
from torch import nn

from blindspots.attacks.chunks import attack_in_chunks
from blindspots.attacks.polish import certified
from blindspots.models.state import restored
from blindspots.seeding import seeded
from blindspots.torchvision_import import import_with_torchvision

# adv-lib's attacks with a Euclidean norm, and what they are told besides the user's options.
# DDN would round to 256 grey levels, which changes the distance and can undo the success.
ADV_LIB = {
    "alma": {"distance": "l2"},
    "carlini_wagner_l2": {},
    "ddn": {"levels": None},
    "df": {"norm": 2},
    "fab": {"norm": 2},
    "fmn": {"norm": 2},
    "pdgd": {},
    "pdpgd": {"norm": 2},
    "sdf": {},
    "tr": {"p": 2},
}
INSTALL = {
    "adv_lib": "install the extra packages: pip install 'setuptools<81' wheel, then "
    "pip install --no-build-isolation --constraint envs/constraints.txt --requirement "
    "envs/peers.txt (its dependency visdom does "
    "not build with a newer setuptools)",
    "foolbox": "install the extra packages: pip install --constraint "
    "envs/constraints.txt foolbox (see envs/peers.txt)",
}
CONTRACT = ("model", "images", "labels", "targets")  # of users' own functions
ROUNDING = 1e-6  # an image may be this far outside the box; it is clipped


class AttackError(ValueError):
    """An attack of another library or of a user that cannot be used, in one sentence."""


def external(method):
    """Return the attack behind a name, with the interface of `blindspots.attacks.lbfgs.lbfgs`.

    Parameters
    ----------
    method : str
        As for `call_of`.

    Returns
    -------
    callable
        ``attack(model, images, labels, *, targets=None, chunk=1000, **options)`` returns an
        `blindspots.attacks.result.AdversarialResult`; options go to the attack as they are.

    Raises
    ------
    AttackError
        If it cannot be found, imported or used.
    """
    return _judging(method, call_of(method))


def users_own(function):
    """Return a user's own function with the interface of `blindspots.attacks.lbfgs.lbfgs`.

    Parameters
    ----------
    function : callable
        With the contract of `call_of`.

    Raises
    ------
    AttackError
        If it does not take these arguments.
    """
    name = function_name(function)
    parameters = inspect.signature(function).parameters.values()
    given = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(given) < len(CONTRACT) and not starred:
        raise AttackError(
            f"{name} must take {', '.join(CONTRACT)} in this order and return images; attacks of "
            "this package go by their names"
        )
    return _judging(name, _checking(name, function))


def function_name(function):
    """Return what sentences and tables call a function."""
    return getattr(function, "__name__", type(function).__name__)


def _judging(method, call):
    """Return an attack whose successes are our own judgement of what a bare attack returns."""

    def attack(model, images, labels, *, targets=None, chunk=1000, **options):
        def solve(objective, origin):
            counted = _Counted(objective.model)
            start = origin.view(len(origin), *objective.shape)
            given = [
                part if part is None else part.clone()
                for part in (start, objective.labels, objective.targets)
            ]
            own = {name: _copied(value) for name, value in options.items()}
            # Random starts are the same in every run.
            with restored(model), torch.enable_grad(), seeded(0, origin.device):
                found = call(counted, *given, **own)
            passes = -(-counted.images // len(origin))
            best, distance, residual, used = judged(method, found, objective, origin)
            return best, distance, residual, used + passes

        return attack_in_chunks(solve, model, images, labels, targets, chunk)

    return attack


def call_of(method):
    """Return the bare attack behind a name.

    Parameters
    ----------
    method : str
        ``"adv-lib:<function>"`` and ``"foolbox:<class>"``, any of their attacks with a Euclidean
        norm, or ``"module:function"`` with the contract
        ``function(model, images, labels, targets, **options) -> images``; ``targets`` is None for
        an untargeted attack.

    Returns
    -------
    callable
        With that contract.

    Raises
    ------
    AttackError
        If it cannot be found or imported.
    """
    library, _, name = method.partition(":")
    if library == "adv-lib":
        return _adv_lib(name)
    if library == "foolbox":
        return _foolbox(name)
    return _user(method, library, name)


def judged(method, found, objective, origin):
    """Measure what an attack returned, as `blindspots.attacks.polish.certified`.

    Raises
    ------
    AttackError
        If these are no images of the right shape.
    """
    point, usable = _checked(method, found, origin.view(len(origin), *objective.shape))
    return certified(objective, origin, point.flatten(1), usable)


def _check_keywords(method, function, options):
    """Raise AttackError if a function does not take an option."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.name != "self"]
    for name in options:
        if name not in known:
            raise AttackError(f"{method} has no option {name!r}; known: {', '.join(known)}")


def _copied(option):
    """Return a copy of an option; what cannot be copied, itself."""
    try:
        return copy.deepcopy(option)
    except (TypeError, RuntimeError):
        return option


class _Counted(nn.Module):
    """A model as attacks know it, a module, that counts the images that pass through it.

    Parameters
    ----------
    admitted : blindspots.models.admission.Admitted
    """

    def __init__(self, admitted):
        super().__init__()
        self.answer, self.images, self.model = admitted, 0, admitted.model
        self.training = False

    def forward(self, images):
        self.images += len(images)
        return self.answer(images)


def _checked(method, found, start):
    """Return an attack's images in the box, and which of them are usable."""
    if not isinstance(found, torch.Tensor) or found.shape != start.shape:
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise AttackError(f"{method} must return images of shape {tuple(start.shape)}, not {got}")
    found = found.detach().to(start)
    inside = ((found >= -ROUNDING) & (found <= 1 + ROUNDING)).flatten(1).all(1)  # false for NaN
    return found.nan_to_num(0.0).clamp(0, 1), inside


def _adv_lib(name):
    if name not in ADV_LIB:
        raise AttackError(
            f"no attack of adv-lib named {name!r} is offered; known: " + ", ".join(ADV_LIB)
        )
    function = getattr(_library("adv_lib", "adv_lib.attacks"), name)
    fixed = ADV_LIB[name]

    def call(model, images, labels, targets, **options):
        _check_keywords(f"adv-lib:{name}", function, options)
        goal = labels if targets is None else targets
        return function(model, images, goal, targeted=targets is not None, **{**fixed, **options})

    return call


def _foolbox(name):
    foolbox = _library("foolbox", "foolbox")
    kind = getattr(foolbox.attacks, name, None)
    if not inspect.isclass(kind) or not ("L2" in name or name == "DDNAttack"):
        known = [n for n in dir(foolbox.attacks) if n.startswith("L2")] + ["DDNAttack"]
        raise AttackError(
            f"no attack of foolbox named {name!r} is offered; known: {', '.join(known)}"
        )

    def call(model, images, labels, targets, **options):
        device = images.device
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
        if targets is None:
            criterion = foolbox.criteria.Misclassification(labels)
        else:
            criterion = foolbox.criteria.TargetedMisclassification(targets)
        # Attacks of a fixed size need that size; the others find the smallest.
        sizes = {"epsilons": options.pop("epsilon", None)}
        _check_keywords(f"foolbox:{name}", kind.__init__, options)
        _, clipped, _ = kind(**options)(wrapped, images, criterion, **sizes)
        return clipped

    return call


def _user(method, module, name):
    try:
        with seeded(0):
            function = getattr(import_with_torchvision(module), name)
    except ImportError as error:
        raise AttackError(f"{method} cannot be imported: {error}") from error
    except AttributeError:
        raise AttackError(f"{method}: {module} has no {name!r}") from None
    if not callable(function):
        raise AttackError(f"{method} is not a function")

    return _checking(method, function)


def _checking(method, function):
    """Return a user's function that is told no option which it does not know."""

    def call(model, images, labels, targets, **options):
        _check_keywords(method, function, options)
        return function(model, images, labels, targets, **options)

    return call


def _library(package, module):
    if find_spec(package) is None:
        raise AttackError(f"{package.replace('_', '-')} is not installed; {INSTALL[package]}")
    return import_with_torchvision(module)
