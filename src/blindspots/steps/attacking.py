"""Attacks as steps run them: in chunks, with progress, and from where a killed job was."""

import torch

from blindspots.attacks.cost import seconds_of
from blindspots.attacks.external import AttackError
from blindspots.attacks.methods import method
from blindspots.attacks.pool import attacked
from blindspots.errors import UserError
from blindspots.progress import Progress, foretell


def attack_all(network, images, labels, targets, attack, chunk, checkpoint):
    """Attack images in chunks, with progress in the log, from a checkpoint if there is one.

    Parameters
    ----------
    network, images, labels, targets, chunk
        As for `blindspots.attacks.lbfgs.lbfgs`.
    attack : dict
        ``method`` and ``options``, as in a configuration.
    checkpoint : blindspots.checkpoint.NoCheckpoint
        Or another class with its methods; the stage is ``attack``.

    Returns
    -------
    dict of str to torch.Tensor
        What is known of each image (`blindspots.attacks.result.AdversarialResult`), on the CPU.

    Raises
    ------
    UserError
        If an attack of others fails.
    """
    if len(images) == 0:  # there are more parts than chunks
        return {"success": torch.zeros(0, dtype=torch.bool), "rms": torch.zeros(0)}
    found = checkpoint.load("attack") or {}
    done = len(found.get("success", ()))
    left = images[done:]
    seconds = seconds_of(network, left, targets, attack, chunk)
    foretell(seconds, f"{len(left)} images, {chunk} at a time")
    progress = Progress(f"{attack['method']}, images", len(images), done)
    parts = [found] if done else []

    def joined():
        parts[:] = [{name: torch.cat([part[name] for part in parts]) for name in parts[0]}]
        return parts[0]

    engine, options = method(attack["method"]), attack["options"]
    try:
        for count, result in attacked(
            engine, network, images, labels, targets, chunk, options, start=done
        ):
            parts.append({name: value.cpu() for name, value in vars(result).items()})
            checkpoint.save("attack", joined)
            progress.report(count, "")
    except AttackError as error:
        raise UserError(str(error)) from error
    return joined()
