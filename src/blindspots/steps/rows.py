"""The shared part of the steps that make rows of the transfer table: cells, old and new."""

import logging
from functools import cache
from pathlib import Path

import numpy as np

from blindspots.artifacts import canonical_json, write_text
from blindspots.evaluation.transfer import CLEAN, answers_of_all, transfer_counts, variant_name
from blindspots.progress import Progress
from blindspots.steps.cells import CellCache
from blindspots.steps.loading import load_network

LOG = logging.getLogger(__name__)


def write_row(job, options, device, *, pool, identity, found=None, source=None):
    """Compute the missing cells of one row and write the row in the order of the configuration.

    Parameters
    ----------
    job : blindspots.steps.job.Job
        Its specification lists ``victims``, ``variants``, ``source``, ``seed``, ``attack``.
    options : argparse.Namespace
        With ``victims`` and ``output``; the cells lie beside ``rows/``.
    device : torch.device
    pool : tuple
        Images, labels (tensors), indices (ndarray) and base set of the images.
    identity : list
        What tells the perturbed images of this row from others.
    found : dict, optional
        Adversarial ``images``, ``success`` and ``targets``; absent for noise.
    source : torch.nn.Module, optional
        The network that the set was made for; absent for noise.
    """
    spec = job.spec
    images, labels, indices, base = pool
    truth = labels.cpu().numpy()
    adversarial, extra = None, {}
    if found is not None:
        adversarial = found["images"]
        extra = {key: found[key].cpu().numpy() for key in ("targets", "success")}
    victims, digests = {}, {}
    for name, path in zip(spec["victims"], options.victims, strict=True):
        victims[name], about = load_network(path, job.upstream("victims")[name], device)
        digests[name] = about["content"]
    study = Path(options.output).parents[3]  # above rows/<source>/seed<s>/
    known = CellCache(study / "cells", identity, job.code, spec["versions"], device.type)

    def answers(networks, variant):
        stream = (base, spec["seed"])
        return answers_of_all(
            networks, variant, images, adversarial, indices, stream, spec["chunk"]
        )

    @cache
    def clean_right(name):
        return answers({name: victims[name]}, {"kind": CLEAN})[0][name] == truth

    rows, computed = [], 0
    progress = Progress("variants", len(spec["variants"]))
    for done, variant in enumerate(spec["variants"], start=1):
        cells = {name: known.get(digests[name], variant) for name in victims}
        missing = {name: network for name, network in victims.items() if cells[name] is None}
        if missing:
            networks = missing if source is None else {**missing, None: source}
            answered, sizes = answers(networks, variant)
            rms = _rms(variant, sizes, extra.get("success"))
            for name in missing:
                counts = transfer_counts(
                    answered[name], truth, clean_right(name), source=answered.get(None), **extra
                )
                cells[name] = {**counts, "rms": rms}
                known.put(digests[name], variant, cells[name])
        computed += len(missing)
        rows += [
            {
                "source": spec["source"],
                "victim": name,
                "seed": spec["seed"],
                "attack": spec["attack"],
                "variant": variant_name(variant),
                **counts,
            }
            for name, counts in cells.items()
        ]
        progress.report(done, "")
    LOG.info("%d cells, %d of them computed now", len(rows), computed)
    write_text(options.output, canonical_json({**job.provenance(), "rows": rows}) + "\n")


def _rms(variant, sizes, success):
    """Return the RMS of a cell: the level asked for, or the mean of what was measured."""
    if "level" in variant and not variant.get("clip"):
        return variant["level"]
    if success is not None:
        sizes = sizes[success]
    return float(np.mean(sizes)) if len(sizes) else None
