"""What a long computation asks of a checkpoint; where it is kept is not its business."""


class NoCheckpoint:
    """Keeps nothing: every computation starts from its beginning."""

    def load(self, stage):
        """Return the state last saved under the name of a stage; None where there is none."""

    def save(self, stage, state, force=False):
        """Save what ``state()`` returns: tensors and plain values in dicts and lists.

        Without ``force`` only now and then, so that saving costs little.
        """


NO_CHECKPOINT = NoCheckpoint()
