"""Models as artifacts, networks and others; shared by the steps that use them."""

from contextlib import contextmanager

import numpy as np
import torch
from safetensors.numpy import load, save

from blindspots.artifacts import read_tensors, write_tensors
from blindspots.errors import UserError
from blindspots.models.networks import build_network, placed
from blindspots.randomness import stable_seed

# What numpy and safetensors both know.
DTYPES = (torch.float16, torch.float32, torch.float64, torch.bool, torch.uint8)
DTYPES += (torch.int8, torch.int16, torch.int32, torch.int64)
ESTIMATOR = "estimator"  # the architecture of a classifier of scikit-learn that is no network


def save_network(path, network, provenance):
    """Write the weights of a network, with the description that rebuilds it."""
    write_tensors(path, weights_of(network), provenance)


def save_estimator(path, content, provenance):
    """Write a classifier of scikit-learn as `blindspots.models.estimator_bytes.pack` gives it."""
    write_tensors(path, {ESTIMATOR: np.frombuffer(content, np.uint8)}, provenance)


def weights_of(network):
    """Return what is saved of a network: arrays by name.

    Raises
    ------
    ValueError
        If there is something that cannot be saved, or a weight that is not finite.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))
    weights = {}
    for name, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"its {name} is of type {type(value).__name__}, not a tensor")
        if value.dtype not in DTYPES or value.layout != torch.strided:
            raise ValueError(f"its {name} is {value.dtype}, {value.layout}, which is not saved")
        if name in parameters and not bool(value.isfinite().all()):
            raise ValueError(f"its {name} is not finite")
        weights[name] = value.detach().cpu().contiguous().numpy()
    return weights


def reloaded(network, about):
    """Return a network as it will be read back: built again, with its weights from bytes.

    Parameters
    ----------
    network : torch.nn.Module
        As built, on the CPU.
    about : dict
        ``architecture``, ``shape`` and ``classes``, which rebuild it.

    Raises
    ------
    ValueError
        If it cannot be saved, or another one is read back: it draws what is no weight of it.
    """
    weights = load(save(weights_of(network)))
    again = build_network(about["architecture"], tuple(about["shape"]), about["classes"], seed=0)
    again.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    images = torch.linspace(0, 1, int(np.prod(about["shape"]))).view(1, *about["shape"])
    with torch.no_grad():
        wanted, found = (one.eval()(images.clone()) for one in (network, again))
    network.train()
    if not torch.equal(wanted, found):
        raise ValueError(
            "it answers otherwise when it is built again and given its weights: something in it is "
            "drawn, or changes, that is neither parameter nor buffer"
        )
    return again.train()


@contextmanager
def code_of_others(kind):
    """Make one sentence of whatever a user's network raises; of the project's own, leave it."""
    try:
        yield
    except Exception as error:
        if ":" not in kind:
            raise
        reason = " ".join(str(error).split()) or "no message"
        if not isinstance(error, ValueError | RuntimeError | ImportError):
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(f"the network {kind} failed: {reason}") from error


def built(about, seed):
    """Return a network as it is described, with weights that are drawn.

    Parameters
    ----------
    about : dict
        ``architecture``, ``shape`` and ``classes``.
    seed : int

    Raises
    ------
    UserError
        If a user's own code cannot build it.
    """
    with code_of_others(about["architecture"]["kind"]):
        return build_network(about["architecture"], tuple(about["shape"]), about["classes"], seed)


def seed_of_weights(seed):
    """Return the seed of the first weights of a model, and of its training, from its own."""
    return stable_seed("model", seed) % 2**63


def load_network(path, job_digest, device):
    """Read a model, frozen and in evaluation mode, and its provenance.

    It maps images to logits, of which that of its answer is the largest; on whether there is a
    gradient see `blindspots.models.makers.registry`.
    """
    tensors, provenance = read_tensors(path, job_digest)
    about = provenance["network"]
    is_network = about["architecture"]["kind"] != ESTIMATOR
    model = (_network if is_network else _estimator)(path, tensors, about)
    model = placed(model, about["architecture"]["kind"], device)
    return model.eval().requires_grad_(False), provenance


def _network(path, tensors, about):
    network = build_network(about["architecture"], tuple(about["shape"]), about["classes"], seed=0)
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    except RuntimeError:
        raise UserError(
            f"{path} holds other weights than its network; delete it and run again"
        ) from None
    return network


def _estimator(path, tensors, about):
    from blindspots.models.estimator_bytes import unpack  # slow, and most studies have none
    from blindspots.models.predictions import Predictions

    try:
        return Predictions(unpack(tensors[ESTIMATOR].tobytes()), about["classes"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is not what was saved: {error}; delete it and run again") from None
