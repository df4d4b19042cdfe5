"""Cells of the transfer table: one perturbed set of images, seen by one victim."""

from dataclasses import dataclass, replace
from importlib import import_module

import torch

from blindspots.evaluation.distortion import rms_distortion
from blindspots.evaluation.intervals import wilson_interval
from blindspots.models.admission import admit
from blindspots.models.inference import answers_of
from blindspots.models.state import frozen

AS_FOUND = "as_found"


@dataclass(frozen=True)
class Context:
    """What is known of perturbed images beside their pixels, which some variants look at.

    Attributes
    ----------
    indices : ndarray of int64, shape (B,)
        Positions of the images in their base set.
    stream : tuple
        What tells this draw of noise from others.
    chunk : int
        Images perturbed and classified together.
    labels, targets : torch.Tensor of int64, shape (B,), optional
        The true labels, and those aimed at, -1 for none.
    source : torch.nn.Module, optional
        The network that an adversarial set was made for.
    """

    indices: object
    stream: tuple
    chunk: int
    labels: object = None
    targets: object = None
    source: object = None

    @classmethod
    def of(cls, indices, stream, chunk, labels, found=None, source=None):
        """Return what is known of some images; of an adversarial set ``found``, its targets.

        A set with an image that aims at none, of an untargeted attack that failed, has no targets.
        """
        targets = None if found is None or (found["targets"] < 0).any() else found["targets"]
        return cls(indices, stream, chunk, labels, targets, source)

    def part(self, rows):
        """Return the same of some of the images, a slice."""
        lists = {name: getattr(self, name) for name in ("indices", "labels", "targets")}
        return replace(self, **{n: v if v is None else v[rows] for n, v in lists.items()})


def packages_of(kind):
    """Return the libraries that a kind of variants depends on, beside numpy and torch."""
    return _module({"kind": kind}).PACKAGES


def variant_name(variant):
    """Return the name of a variant in the tidy table."""
    return _module(variant).name(variant)


def perturb(variant, originals, adversarial, context):
    """Return one variant of perturbed images.

    Parameters
    ----------
    variant : dict
        ``kind``: the name of a module of `blindspots.evaluation.variants`; what else it holds is
        said there.
    originals : torch.Tensor of float32, shape (B, ...)
    adversarial : torch.Tensor or None
        The adversarial images; None for noise and clean images.
    context : Context

    Returns
    -------
    torch.Tensor, shape (B, ...)
    """
    return _module(variant).perturb(variant, originals, adversarial, context)


def _module(variant):
    # By name, so that the code of a row is that of its own variants: see Job.modules.
    return import_module(f"blindspots.evaluation.variants.{variant['kind']}")


def answers_of_all(networks, variant, originals, adversarial, context):
    """Return every network's answers to one variant, and the RMS distortion of each image.

    Parameters
    ----------
    networks : dict of str to torch.nn.Module
    variant, originals, adversarial, context
        As for `perturb`.

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
    for start in range(0, len(originals), context.chunk):
        part = slice(start, start + context.chunk)
        base = originals[part]
        found = None if adversarial is None else adversarial[part]
        images = perturb(variant, base, found, context.part(part))
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


def clean_right(victims, originals, context):
    """Tell which clean images each victim gets right.

    Parameters
    ----------
    victims : dict of str to torch.nn.Module
    originals : torch.Tensor of float32, shape (B, ...)
    context : Context

    Returns
    -------
    dict of str to ndarray of bool, shape (B,)
    """
    answers, _ = answers_of_all(victims, {"kind": "clean"}, originals, None, context)
    labels = context.labels.cpu().numpy()
    return {name: said == labels for name, said in answers.items()}


def transfer_cells(victims, variant, originals, found, right, context):
    """Show one variant of perturbed images to victims, and count what each makes of it.

    Parameters
    ----------
    victims : dict of str to torch.nn.Module
    variant : dict
        As for `perturb`.
    originals : torch.Tensor of float32, shape (B, ...)
    found : dict of str to torch.Tensor, or None
        Of an adversarial set: ``images``, ``success`` and ``targets``; None for noise and clean
        images.
    right : dict of str to ndarray of bool, shape (B,)
        Which clean images each victim gets right: `clean_right`.
    context : Context
        With labels, and of adversarial images with their source.

    Returns
    -------
    dict of str to (dict, ndarray of bool of shape (B,))
        For each victim its counts (`transfer_counts`, and ``rms``) and the images that fool it.

    Raises
    ------
    blindspots.models.admission.ModelError
        If a network is refused (`blindspots.models.admission.admit`).
    """
    labels, networks, own, extra = context.labels.cpu().numpy(), dict(victims), None, {}
    if context.source is not None:
        same = [name for name, victim in victims.items() if victim is context.source]
        own = same[0] if same else None
        networks[own] = context.source
    if found is not None:
        extra = {key: found[key].cpu().numpy() for key in ("targets", "success")}
    adversarial = None if found is None else found["images"]
    answered, sizes = answers_of_all(networks, variant, originals, adversarial, context)
    said = None if context.source is None else answered[own]
    success, rms = extra.get("success"), _rms(variant, sizes, extra.get("success"))
    cells = {}
    for name in victims:
        counts = transfer_counts(answered[name], labels, right[name], source=said, **extra)
        fooled = fooled_images(answered[name], labels, success)
        cells[name] = {**counts, "rms": rms}, fooled
    return cells


def tidy_row(source, victim, attack, variant, counts):
    """Return a row of the tidy transfer table, from the counts of one of the `transfer_cells`.

    Source and victim are pairs of a name and a seed.
    """
    return {
        "source": source[0],
        "victim": victim[0],
        "seed": source[1],
        "victim_seed": victim[1],
        "attack": attack,
        "variant": variant_name(variant),
        **counts,
    }


def _rms(variant, sizes, success):
    """Return the RMS of a cell: the level asked for, or the mean of what was measured."""
    if "level" in variant and not variant.get("clip"):
        return variant["level"]
    if success is not None:
        sizes = sizes[success]
    return float(sizes.mean()) if len(sizes) else None


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
