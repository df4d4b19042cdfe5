"""The network of a model as it was before it was trained; shared by the steps that compare."""

from blindspots.models.networks import placed
from blindspots.steps.weights import built, seed_of_weights


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
    network = built(about["network"], seed_of_weights(about["spec"].get("seed", 0)))
    network = placed(network, about["network"]["architecture"]["kind"], device)
    return network.eval().requires_grad_(False)
