"""Several models attacked, and every adversarial image shown to every model."""

import math
import numbers
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch

from blindspots.attacks.chunks import check_options
from blindspots.attacks.methods import method, method_name
from blindspots.attacks.pool import attacked, right_answers
from blindspots.attacks.result import concatenate
from blindspots.chunk import chunk_for
from blindspots.evaluation.transfer import Context, clean_right, tidy_row, transfer_cells
from blindspots.evaluation.variants import amplified, gaussian
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.experiments.transfer.victim_seeds import SAME
from blindspots.models.admission import admit
from blindspots.models.state import frozen
from blindspots.notebook.attack import BASE, checked_targets, chosen_targets
from blindspots.notebook.inputs import as_images, as_labels, device_of, refuse_other_classes

NOISE, POOL = "noise", "images"
LISTED = 4  # sources whose counts are told one by one


@dataclass(frozen=True, repr=False, eq=False)
class TransferMatrix:
    """Which adversarial images fool which models.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each source, victim and form in which images are shown, with the columns of a
        workflow's ``transfer.csv``: ``source``, ``victim``, ``seed``, ``victim_seed``, ``attack``,
        ``variant``, ``rms``, ``n_attacked``, ``n_failed``, ``n_fooled``, ``n_both_right``,
        ``n_fooled_both_right``, ``same_wrong``, ``other_wrong``, ``target_hit``, ``error``, ``low``
        and ``high``. The rows of source ``noise`` are of all images, clean and with noise.
    left_out : dict of str to int
        For each source the images that it gets wrong already, which it is not attacked on.
    images : int
        How many images were given.
    attack, targets : str
        In a word.
    sources, victims : list of str
    amplify : list of float
        RMS levels of the amplified images.
    """

    table: pd.DataFrame
    left_out: dict
    images: int
    attack: str
    targets: str
    sources: list
    victims: list
    amplify: list

    @property
    def error(self):
        """The share of a source's images, as found, that fool a victim: sources x victims."""
        found = self.table[self.table["variant"] == "as_found"]
        rates = found.pivot(index="source", columns="victim", values="error")
        return rates.reindex(index=self.sources, columns=self.victims)

    def plot(self):
        """Return the errors in per cent as a figure: as found, and a panel for each level.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib import pyplot

        from blindspots.experiments.transfer.figures import transfer_heat_maps
        from blindspots.summary.style import house_style

        spec = {
            "attack": self.attack,
            "sources": self.sources,
            "victims": self.victims,
            "labels": {name: name for name in self.victims},
            "amplify": self.amplify,
            "seeds": self.table["seed"].unique().tolist(),
            "victim_seeds": SAME,
        }
        with house_style():
            figure = transfer_heat_maps(self.table, spec, self._setting())
        if "IPython" in sys.modules:
            # It shows figures as pictures once pyplot's backend is loaded, and ours are Figures.
            pyplot.switch_backend(pyplot.get_backend())
        return figure

    def __repr__(self):
        counts = list(self.left_out.values())
        if len(counts) > LISTED:
            left_out = f"{min(counts)} to {max(counts)} a source"
        else:
            left_out = ", ".join(f"{name} {count}" for name, count in self.left_out.items())
        return (
            f"<TransferMatrix: {_count(self.sources, 'source')} x {_count(self.victims, 'victim')},"
            f" {self._setting()}, left out because wrong already: {left_out}>"
        )

    def _setting(self):
        return f"{self.attack}, {self.targets}, {self.images} images"


def transfer_matrix(
    models,
    images,
    labels,
    *,
    attack="lbfgs",
    targets=None,
    amplify=(),
    noise=(),
    sources=None,
    seed=0,
    chunk=None,
):
    """Attack models, show every adversarial image to every model, and count who is fooled.

    Images that a source gets wrong are left out for it. The numbers are those of a workflow with
    the same models, images, seed and chunk.

    Parameters
    ----------
    models : dict of str to torch.nn.Module or callable
        Each maps images in [0, 1], (N, C, H, W), to logits (N, C), of the same classes; all lie on
        one device. What is not normalised inside goes through `blindspots.normalized`.
    images : array-like, shape (N, C, H, W) or (N, H, W)
        Floating-point numbers in [0, 1], or uint8, which is divided by 255; (N, H, W) becomes
        (N, 1, H, W).
    labels : array-like of int, shape (N,)
        The true classes.
    attack : str, callable or dict
        A method of `blindspots.attack`; or that and its options, as in
        ``{"method": "ddn", "steps": 300}``.
    targets : array-like of int of shape (N,), str or None
        As for `blindspots.attack`.
    amplify : sequence of float
        RMS levels to which the perturbations are amplified, too, in units of the pixel range.
    noise : sequence of float
        Standard deviations of Gaussian noise that clean images are shown with.
    sources : sequence of str, optional
        The models that are attacked, which needs gradients; None: all. All are victims.
    seed : int
        Of random targets and noise. A workflow draws the same for the first N images of its test
        set.
    chunk : int, optional
        The most images computed together; bounds the memory. Unless given it is a workflow's: 1000
        on a CPU, 64000 on a GPU, and fewer of large images.

    Returns
    -------
    TransferMatrix
        With ``table``, ``error``, ``left_out`` and ``plot()``.

    Raises
    ------
    ValueError
        If an argument or a model is not what it should be, in one sentence.

    Examples
    --------
    >>> matrix = bs.transfer_matrix({"a": a, "b": b}, images, labels, amplify=[0.1])
    >>> matrix.error
    """
    sources = _checked_names(models, sources)
    images = as_images(images, _common_device(models))
    labels = as_labels("labels", labels, len(images), images.device)
    targets = checked_targets(targets, images)
    name, engine, options = _checked_attack(attack)
    amplify, noise = _levels("amplify", amplify), _levels("noise", noise)
    chunk = chunk_for(images.shape[1:], images.device.type) if chunk is None else chunk
    check_options(chunk=chunk)
    check_options(least=0, seed=seed)
    _look(models, sources, images, labels, targets)
    stream = (BASE, seed)
    kinds = [{"kind": "as_found"}, *amplified.variants(amplify, clip=False)]
    rows, left_out = [], {}
    for source in sources:
        model = models[source]
        logits, right = right_answers(model, images, labels, chunk, name=f"model {source}")
        left_out[source] = int((~right).sum())
        if not bool(right.any()):
            raise ValueError(
                f"model {source} gets none of the {len(images)} images right, so there is none to "
                "attack; leave it out of the sources"
            )
        pool, truth, indices = images[right], labels[right], right.nonzero()[:, 0].cpu().numpy()
        goal = targets[right] if isinstance(targets, torch.Tensor) else targets
        goal = chosen_targets(goal, logits[right], truth, indices, seed)
        results = attacked(engine, model, pool, truth, goal, chunk, options)
        found = vars(concatenate([result for _, result in results]))
        context = Context.of(indices, stream, chunk, truth, found, model)
        rows += _rows(models, kinds, pool, found, context, (source, seed, name))
    kinds = [{"kind": "clean"}, *gaussian.variants(noise, clip=False)]
    context = Context.of(torch.arange(len(images)).numpy(), stream, chunk, labels)
    rows += _rows(models, kinds, images, None, context, (NOISE, seed, POOL))
    if targets is None:
        said = "untargeted"
    else:
        said = f"{targets if isinstance(targets, str) else 'given'} targets".replace("_", "-")
    return TransferMatrix(
        table=pd.DataFrame(rows, columns=list(FIELDS)),
        left_out=left_out,
        images=len(images),
        attack=name,
        targets=said,
        sources=sources,
        victims=list(models),
        amplify=amplify,
    )


def _count(names, what):
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _rows(models, kinds, images, found, context, identity):
    """Return the rows of one set of images, one variant after the other."""
    source, seed, attack = identity
    right = clean_right(models, images, context)
    return [
        tidy_row((source, seed), (victim, seed), attack, kind, counts)
        for kind in kinds
        for victim, (counts, _) in transfer_cells(
            models, kind, images, found, right, context
        ).items()
    ]


def _checked_names(models, sources):
    """Return the names of the sources, or raise ValueError."""
    if not isinstance(models, Mapping):
        raise ValueError(
            'models must be a dict from names to models, such as {"a": a, "b": b}, not '
            f"{type(models).__name__}"
        )
    if not models:
        raise ValueError("models is empty; give at least one")
    for name in models:
        if not isinstance(name, str) or name in ("", NOISE):
            raise ValueError(
                f"names of models must be text other than '' and 'noise', not {name!r}"
            )
    if sources is None:
        return list(models)
    if isinstance(sources, str):
        sources = [sources]
    unknown = [name for name in sources if name not in models]
    if unknown or not len(sources):
        raise ValueError(
            f"sources must name some of the models, {', '.join(models)}, not {list(sources)}"
        )
    return list(dict.fromkeys(sources))


def _common_device(models):
    devices = {name: device_of(model) for name, model in models.items()}
    known = {name: device for name, device in devices.items() if device is not None}
    (first, device), *others = list(known.items()) or [(None, None)]
    for name, other in others:
        if other != device:
            raise ValueError(
                f"models {first} and {name} lie on {device} and {other}; move them to one device"
            )
    return device


def _checked_attack(attack):
    """Return the name of an attack, the attack, and its options."""
    options = dict(attack) if isinstance(attack, Mapping) else {"method": attack}
    if "method" not in options:
        raise ValueError(
            'attack must hold the method, as in {"method": "ddn", "steps": 300}, not '
            f"{sorted(options)} alone"
        )
    given = [key for key in ("targets", "chunk", "seed") if key in options]
    if given:
        raise ValueError(f"{given[0]} is an argument beside attack, and no option in it")
    chosen = options.pop("method")
    return method_name(chosen), method(chosen), options


def _levels(name, levels):
    """Return levels as a list of numbers, each once, or raise ValueError."""
    try:
        levels = [level.item() if hasattr(level, "item") else level for level in levels]
    except TypeError:
        levels = [levels]
    for level in levels:
        if not isinstance(level, numbers.Real) or not 0 < level < math.inf:
            raise ValueError(f"{name} must be numbers above 0, not {level!r}")
    return list(dict.fromkeys(levels))


def _look(models, sources, images, labels, targets):
    """Look at all models before the first is attacked: raise ValueError if one is of no use."""
    known = {}
    for name, model in models.items():
        with frozen(model):
            looked = admit(model, images, name=f"model {name}", gradients=name in sources)
        known[name] = looked.classes
    classes = next(iter(known.values()))
    for name, count in known.items():
        if count != classes:
            raise ValueError(
                f"models {next(iter(known))} and {name} have {classes} and {count} classes; "
                "models that are compared must have the same"
            )
    refuse_other_classes("labels", labels, classes)
    if isinstance(targets, torch.Tensor):
        refuse_other_classes("targets", targets, classes)
        if bool((targets == labels).any()):
            raise ValueError("every target must differ from the label of its image")
