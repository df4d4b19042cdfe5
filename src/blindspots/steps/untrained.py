"""The network of a model as it was before it was trained; shared by the steps that compare."""

from blindspots.randomness import stable_seed
from blindspots.steps.weights import built


def untrained(about, device):
    """Return a network with the weights that are drawn for it, frozen and in evaluation mode.

    Parameters
    ----------
    about : dict
        Provenance of the model, as `blindspots.steps.weights.load_network` returns it. Of a model
        that was trained here the weights are those that its training began with; of one from a file
        those of seed 0.
    device : torch.device
    """
    seed = stable_seed("model", about["spec"].get("seed", 0)) % 2**63
    return built(about["network"], seed).to(device).eval().requires_grad_(False)
