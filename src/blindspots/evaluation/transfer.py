"""Cells of the transfer table: one perturbed set of images, seen by one victim."""

import torch

from blindspots.evaluation.distortion import add_gaussian_noise, amplify, rms_distortion
from blindspots.evaluation.intervals import wilson_interval
from blindspots.models.admission import admit
from blindspots.models.inference import answers_of
from blindspots.models.state import frozen

AS_FOUND, AMPLIFIED, CLEAN, GAUSSIAN = "as_found", "amplified", "clean", "gaussian"


def variant_name(variant):
    """Return the name of a variant in the tidy table.

    Clipped variants carry the level in their name, since their RMS is what the clipping left.
    """
    clipped = f"_clipped_{variant['level']:g}" if variant.get("clip") else ""
    return variant["kind"] + clipped


def perturb(variant, originals, adversarial, indices, *stream):
    """Return one variant of perturbed images.

    Parameters
    ----------
    variant : dict
        ``kind``: ``as_found``, ``amplified``, ``gaussian`` or ``clean``; ``level``: its RMS;
        ``clip``: whether the images are clipped to [0, 1].
    originals : torch.Tensor of float32, shape (B, ...)
    adversarial : torch.Tensor or None
        The adversarial images; None for noise and clean images.
    indices : ndarray of int64, shape (B,)
    *stream
        What tells this draw of noise from others.

    Returns
    -------
    torch.Tensor, shape (B, ...)
    """
    kind = variant["kind"]
    if kind == AS_FOUND:
        return adversarial
    if kind == CLEAN:
        return originals
    if kind == AMPLIFIED:
        images = amplify(adversarial, originals, variant["level"])
    elif kind == GAUSSIAN:
        images = add_gaussian_noise(originals, indices, variant["level"], *stream)
    else:
        raise ValueError(f"unknown variant {kind!r}")
    return images.clamp(0, 1) if variant.get("clip") else images


def answers_of_all(networks, variant, originals, adversarial, indices, stream, chunk):
    """Return every network's answers to one variant, and the RMS distortion of each image.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
    variant, originals, adversarial, indices
        As for `perturb`.
    stream : tuple
    chunk : int
        Images perturbed and classified together.

    Returns
    -------
    answers : dict of str to ndarray of int64, shape (B,)
        -1 where a logit is no number.
    rms : ndarray of float64, shape (B,)

    Raises
    ------
    blindspots.models.admission.ModelError
        If a network is refused (`blindspots.models.admission.admit`).
    """
    answers, sizes, models = {name: [] for name in networks}, [], {}
    for start in range(0, len(originals), chunk):
        part = slice(start, start + chunk)
        base = originals[part]
        found = None if adversarial is None else adversarial[part]
        images = perturb(variant, base, found, indices[part], *stream)
        sizes.append(rms_distortion(images, base).double().cpu())
        for name, network in networks.items():
            # Each is held for itself and given a copy: none changes what the next one sees.
            with frozen(network):
                if start == 0:
                    said = "the source model" if name is None else f"model {name}"
                    models[name] = admit(network, images, name=said)
                logits = models[name](images.clone())
                if start == 0:
                    models[name].check_again(logits)
            answers[name].append(answers_of(logits).cpu())
    return {n: torch.cat(a).numpy() for n, a in answers.items()}, torch.cat(sizes).numpy()


def fooled_images(victim, labels, success=None):
    """Tell which perturbed images fool a victim; those whose attack failed do not.

    Parameters
    ----------
    victim, labels, success
        As for `transfer_counts`.

    Returns
    -------
    ndarray of bool, shape (B,)
    """
    wrong = victim != labels
    return wrong if success is None else wrong & success


def transfer_counts(victim, labels, clean_right, *, source=None, targets=None, success=None):
    """Count what one victim makes of one perturbed set.

    Parameters
    ----------
    victim : ndarray of int64, shape (B,)
        The victim's answers to the perturbed images.
    labels : ndarray of int64, shape (B,)
    clean_right : ndarray of bool, shape (B,)
        Whether victim and source are both right on the clean images. (The images attacked are
        those that the source gets right.)
    source, targets : ndarray of int64, shape (B,), optional
        The source's answers to the same images, and the labels aimed at; absent for noise.
    success : ndarray of bool, shape (B,), optional
        Images whose attack failed count as attacked and as not fooled.

    Returns
    -------
    dict
        The counts, the error rate over the images attacked, and its 95 % Wilson interval.
    """
    fooled = fooled_images(victim, labels, success)
    attacked, count = len(labels), int(fooled.sum())
    low, high = wilson_interval(count, attacked)
    same = None if source is None else int((fooled & (victim == source)).sum())
    return {
        "n_attacked": attacked,
        "n_failed": 0 if success is None else int((~success).sum()),
        "n_fooled": count,
        "n_both_right": int(clean_right.sum()),
        "n_fooled_both_right": int((fooled & clean_right).sum()),
        "same_wrong": same,
        "other_wrong": None if same is None else count - same,
        "target_hit": None if targets is None else int((fooled & (victim == targets)).sum()),
        "error": count / attacked if attacked else None,
        "low": low if attacked else None,
        "high": high if attacked else None,
    }
