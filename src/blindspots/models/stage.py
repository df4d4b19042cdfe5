"""What of a stage of training goes into a checkpoint, and back."""

import torch

from blindspots.checkpoint import NO_CHECKPOINT


class Stage:
    """A stage of training that goes on from where a checkpoint has left it, bit for bit.

    Parameters
    ----------
    checkpoint : blindspots.checkpoint.NoCheckpoint
        Or another class with its methods.
    name : str
    *networks : torch.nn.Module
        What is trained.
    """

    def __init__(self, checkpoint, name, *networks):
        self.checkpoint, self.name, self.networks = checkpoint, name, networks

    def resume(self, start, **parts):
        """Restore networks, random state and parts with a state; return the position saved.

        Without any, return ``start``.
        """
        state = self.checkpoint.load(self.name)
        if state is None:
            return start
        for network, saved in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(saved)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        cpu, *gpu = state["random"]
        torch.set_rng_state(cpu)
        for saved in gpu:
            torch.cuda.set_rng_state(saved, self._device())
        return state["position"]

    def save(self, position, force=False, **parts):
        """Save networks, random state, parts and a position: plain values, by name."""
        self.checkpoint.save(
            self.name,
            lambda: {
                "networks": [network.state_dict() for network in self.networks],
                "random": self._random(),
                "position": position,
                **{name: part.state_dict() for name, part in parts.items()},
            },
            force,
        )

    def _device(self):
        return next(self.networks[0].parameters()).device

    def _random(self):
        """Return the random state of the CPU, and of the GPU if it is the one in use."""
        device = self._device()
        gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        return [torch.get_rng_state(), *gpu]


NO_STAGE = Stage(NO_CHECKPOINT, "")
