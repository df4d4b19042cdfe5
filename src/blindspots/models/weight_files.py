"""Weights of networks trained elsewhere: read without running code, and loaded strictly."""

import io
import logging
import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from blindspots.errors import UserError
from blindspots.models.weight_digest import describe

LOG = logging.getLogger(__name__)

CHECKPOINT_KEYS = ("state_dict", "model", "model_state_dict")
PARALLEL = "module."  # what torch.nn.DataParallel puts before each name
PICKLES = (b"PK", b"\x80")  # how files begin that torch.save or pickle has written
SHOWN = 3  # names in a sentence


def read_weights(path):
    """Read the weights in a file.

    Parameters
    ----------
    path : path-like
        A ``.safetensors`` file, or a ``.pt`` or ``.pth`` file in which torch.save has written a
        state dict, or a checkpoint that holds a single one, under ``state_dict``, ``model`` or
        ``model_state_dict``.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, named as in the file, in the types of the file.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another format, might run code, or holds something
        else than tensors, or numbers that are not finite.
    """
    form = describe(path)["format"]
    content = Path(path).read_bytes()
    read = _from_safetensors if form == "safetensors" else _from_torch
    weights = read(path, content)
    if not weights:
        raise UserError(f"{path} holds no weights; save the state_dict() of a network")
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise UserError(
                f"{path}: {name} is sparse, quantized or without values; save it as an ordinary "
                "tensor"
            )
        if not _finite(tensor):
            raise UserError(
                f"{path}: {name} has numbers that are not finite; save weights that are"
            )
    return weights


def load_strictly(network, weights, what):
    """Give a network weights that fit it by name and shape, and leave none out.

    Floating-point weights are cast to the type of the network's. Where every name of the weights
    begins with ``module.``, as `torch.nn.DataParallel` saves them, and not every name in the
    network, that prefix is taken away. The log tells both. What a module's own loading makes up for
    is no error: old files lack the counters of batch normalisation.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.
    weights : dict of str to torch.Tensor
        As `read_weights` returns them.
    what : str
        What sentences call the weights.

    Raises
    ------
    UserError
        If a name is missing or left over, a shape or a kind of number is another one, or a number
        is too large for the network's type.
    """
    own = {n: v for n, v in network.state_dict().items() if isinstance(v, torch.Tensor)}
    if _all_parallel(weights) and not _all_parallel(own):
        LOG.info("%s: %s is taken away before every name", what, PARALLEL)
        weights = {name.removeprefix(PARALLEL): tensor for name, tensor in weights.items()}
    _check_alike(own, weights, what)
    try:
        missing, unexpected = network.load_state_dict(_cast(own, weights, what), strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{what} cannot be loaded into the network ({reason}); give weights that were saved "
            "from this architecture"
        ) from None
    faults = [f"lacks {_few(missing)}"] if missing else []
    faults += [f"has {_few(unexpected)}, which the network has not"] if unexpected else []
    if faults:
        raise UserError(
            f"{what} {' and '.join(faults)}; give weights that were saved from this architecture"
        )


def _from_safetensors(path, content):
    try:
        return load_safetensors(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # of types torch lacks
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); fetch or save it again"
        ) from None


def _from_torch(path, content):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            held = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # by damaged bytes torch.load may be led to any
        scripted = "TorchScript archive" in str(error)
        if scripted or (
            isinstance(error, pickle.UnpicklingError) and content[:2].startswith(PICKLES)
        ):
            raise UserError(
                f"{path} is a pickle of Python objects, which may run code; save its state_dict()"
            ) from None
        raise UserError(
            f"{path} is damaged or no file of torch.save ({type(error).__name__}); fetch or save "
            "it again"
        ) from None
    return {name: tensor.detach() for name, tensor in _state_dict(path, held).items()}


def _state_dict(path, held):
    """Return the one state dict in what torch.save has written."""
    if _names_tensors(held):
        return held
    entries = held if isinstance(held, dict) else {}
    inside = [key for key, value in entries.items() if _names_tensors(value) and value]
    if len(inside) > 1:
        raise UserError(
            f"{path} holds several state dicts, {_few(map(str, inside))}; save the one that is "
            "meant, alone"
        )
    if not inside or inside[0] not in CHECKPOINT_KEYS:
        found = f"a {type(held).__name__}"
        if entries:
            found = f"entries {_few(map(str, entries))} that are not all tensors"
        raise UserError(
            f"{path} holds {found}, not a state dict; save the state_dict() of a network, alone or "
            f"under {' or '.join(CHECKPOINT_KEYS[:2])}"
        )
    return entries[inside[0]]


def _names_tensors(value):
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    )


def _finite(tensor):
    if tensor.dtype.itemsize == 1 and tensor.is_floating_point():
        tensor = tensor.float()  # torch does not look into types of eight bits
    return bool(tensor.isfinite().all())


def _all_parallel(weights):
    return all(name.startswith(PARALLEL) for name in weights)


def _check_alike(own, weights, what):
    """Raise UserError where weights have another shape or kind of number than the network's."""
    unlike = [
        f"{name} {_form(tensor)} in place of {_form(own[name])}"
        for name, tensor in weights.items()
        if name in own and _form(tensor) != _form(own[name])
    ]
    if unlike:
        raise UserError(
            f"{what} does not fit the network: it has {_few(unlike)}; give weights that were saved "
            "from this architecture, for as many classes"
        )


def _form(tensor):
    kind = "complex" if tensor.is_complex() else "" if tensor.is_floating_point() else "integer"
    return f"{kind} {tuple(tensor.shape)}".strip()


def _cast(own, weights, what):
    """Return weights in the types of the network's."""
    types = {name: own[name].dtype if name in own else weights[name].dtype for name in weights}
    cast = {name: tensor.to(types[name]) for name, tensor in weights.items()}
    changed = [n for n in weights if cast[n].dtype != weights[n].dtype]
    for name in changed:
        if not _finite(cast[name]):
            raise UserError(
                f"{what}: {name} has numbers too large for the network's {_short(types[name])}; "
                "give smaller weights"
            )
    pairs = sorted({(_short(weights[n].dtype), _short(types[n])) for n in changed})
    for before, after in pairs:
        LOG.info("%s: weights of type %s are cast to the network's %s", what, before, after)
    return cast


def _short(dtype):
    return str(dtype).removeprefix("torch.")


def _few(names):
    """Return the first names, and how many more there are."""
    names = list(names)
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
