"""Networks whose stages are learned one after the other without labels, and then frozen."""

import logging

import torch

from blindspots.checkpoint import NO_CHECKPOINT
from blindspots.models.filters import IMAGES, PATCHES, draw_patches, make_filters
from blindspots.models.logistic import fit_logistic
from blindspots.models.quocnet import features_digest
from blindspots.progress import Progress
from blindspots.randomness import stable_seed

LOG = logging.getLogger(__name__)
# Images that pass together: on a CPU so few that what stages return of them stays in the cache.
BLOCK = {"cpu": 16, "cuda": 256}


def fit_stagewise(network, images, labels, kind, sparsities, seed, checkpoint=NO_CHECKPOINT):
    """Make the filters of each stage of a network, then fit its classifier; in place.

    Parameters
    ----------
    network : torch.nn.Sequential
        As `blindspots.models.quocnet.quocnet` returns it; without stages, of pixels alone.
    images : torch.Tensor of float32, shape (N, C, H, W)
    labels : torch.Tensor of int64, shape (N,)
        For the classifier alone.
    kind : str
        One of `blindspots.models.filters.KINDS`.
    sparsities : list of float
        Of each stage, for ``rica``.
    seed : int
    checkpoint : blindspots.checkpoint.NoCheckpoint
        Or another class with its methods; it has the filters of the stages that are done.

    Returns
    -------
    dict
        The record of `blindspots.models.logistic.fit_logistic`; ``features``, the digest of the
        filters before the classifier was fitted.

    Raises
    ------
    ValueError
        As for `blindspots.models.logistic.fit_logistic`.
    """
    network.requires_grad_(False)
    drawn = torch.Generator().manual_seed(stable_seed("images", seed) % 2**63)
    maps = images[torch.randperm(len(images), generator=drawn)[:IMAGES].to(images.device)]
    made = checkpoint.load("filters") or {}
    for number, (stage, sparsity) in enumerate(zip(network[:-2], sparsities, strict=True)):
        filters = stage[0]
        if number in made:
            filters.load_state_dict(made[number])
        else:
            generator = torch.Generator().manual_seed(stable_seed("filters", seed, number) % 2**63)
            patches = draw_patches(maps, filters.kernel_size[0], PATCHES, generator)
            weight, bias = make_filters(kind, patches, len(filters.weight), sparsity, generator)
            filters.weight.copy_(weight.view_as(filters.weight))
            filters.bias.copy_(bias)
            made[number] = filters.state_dict()
            checkpoint.save("filters", lambda: made)
        LOG.info("stage %d: %d filters, %s", number + 1, len(filters.weight), kind)
        if number + 1 < len(sparsities):
            maps = _passed(stage, maps)
    digest = features_digest(network)
    features = _passed(network[:-1], images)
    layer, record = fit_logistic(features, labels, network[-1].out_features, seed)
    network[-1].load_state_dict(layer.state_dict())
    return {**record, "features": digest}


def _passed(layers, images):
    """Return what layers make of images, in blocks."""
    progress, parts, done = Progress("features, images", len(images)), [], 0
    for part in images.split(BLOCK.get(images.device.type, BLOCK["cpu"])):
        parts.append(layers(part))
        done += len(part)
        progress.report(done)
    return torch.cat(parts)
