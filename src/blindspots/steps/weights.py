"""Trained networks as artifacts; shared by the steps that use them."""

import torch

from blindspots.artifacts import read_tensors, write_tensors
from blindspots.errors import UserError
from blindspots.models.networks import build_network


def save_network(path, network, provenance):
    """Write the weights of a network, with the description that rebuilds it."""
    weights = {n: t.detach().cpu().contiguous().numpy() for n, t in network.state_dict().items()}
    write_tensors(path, weights, provenance)


def load_network(path, job_digest, device):
    """Read a network, frozen and in evaluation mode, and its provenance."""
    tensors, provenance = read_tensors(path, job_digest)
    about = provenance["network"]
    network = build_network(about["architecture"], tuple(about["shape"]), about["classes"], seed=0)
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    except RuntimeError:
        raise UserError(
            f"{path} holds other weights than its network; delete it and run again"
        ) from None
    return network.to(device).eval().requires_grad_(False), provenance
