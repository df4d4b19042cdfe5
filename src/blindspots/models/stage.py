"""What of a stage of training goes into a checkpoint, and back."""

from blindspots.checkpoint import NO_CHECKPOINT
from blindspots.seeding import random_state, restore_random_state


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
        restore_random_state(state["random"], self._device())
        return state["position"]

    def finished(self):
        """Return the record that the position of an ended stage holds, networks restored, or None.

        Of a stage that has not ended nothing is restored.
        """
        state = self.checkpoint.load(self.name)
        if state is None or "record" not in state["position"]:
            return None
        return self.resume(None)["record"]

    def save(self, position, force=False, **parts):
        """Save networks, random state, parts and a position: plain values, by name."""
        self.checkpoint.save(
            self.name,
            lambda: {
                "networks": [network.state_dict() for network in self.networks],
                "random": random_state(self._device()),
                "position": position,
                **{name: part.state_dict() for name, part in parts.items()},
            },
            force,
        )

    def _device(self):
        return next(self.networks[0].parameters()).device


NO_STAGE = Stage(NO_CHECKPOINT, "")
