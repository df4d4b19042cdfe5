"""The shared part of the steps that make rows of the transfer table: cells, old and new."""

import logging
from pathlib import Path

import numpy as np

from blindspots.artifacts import write_record
from blindspots.chunk import chunk_of
from blindspots.evaluation.transfer import (
    AS_FOUND,
    Context,
    answers_of_all,
    clean_right,
    packages_of,
    tidy_row,
    transfer_cells,
)
from blindspots.experiments.transfer.bits import array_to_text, text_to_bits
from blindspots.experiments.transfer.cells import CLEAN_RIGHT, CellCache
from blindspots.experiments.transfer.victim_seeds import parsed
from blindspots.models.timing import speed_of
from blindspots.progress import Progress, foretell
from blindspots.steps.weights import load_network

LOG = logging.getLogger(__name__)
NUMERIC = ("numpy", "torch")  # what every cell is computed with
TOGETHER = 16  # victims in memory at one time


def write_row(job, victim_files, output, device, *, pool, identity, found=None, source=None):
    """Compute the missing cells of one row and write the row in the order of the configuration.

    Parameters
    ----------
    job : blindspots.steps.job.Job
        Its specification lists ``victims``, ``variants``, ``source``, ``seed``, ``attack``.
    victim_files : list of path-like
        The victims, in the order of the specification.
    output : path-like
        The row to write; the cells lie beside ``rows/``.
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
    paths = dict(zip(spec["victims"], victim_files, strict=True))
    study = Path(output).parents[3]  # above rows/<source>/seed<s>/
    versions = {name: spec["versions"][name] for name in NUMERIC}
    chunk = chunk_of(spec["chunk"], images)
    computing = [versions, chunk, job.threads, device.type]
    code, _, _ = job.code.partition("-")
    # A cell depends on the code and the libraries of its own variant, not on those beside it.
    codes = {
        kind: " ".join([own, *(f"{p} {spec['versions'][p]}" for p in packages_of(kind))])
        for kind, own in job.code_of_modules().items()
    }
    known = CellCache(study / "cells", codes, identity, code, computing)
    context = Context.of(indices, (base, spec["seed"]), chunk, labels, found, source)

    names, variants = spec["victims"], spec["variants"]
    cells, right_of, computed, saved = [{} for _ in variants], {}, 0, 0
    progress = Progress("cells", len(names) * len(variants))
    for block in (names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER)):
        victims, digests = {}, {}
        for name in block:
            victims[name], about = load_network(paths[name], job.upstream("victims")[name], device)
            digests[name] = about["content"]
            right_of[name] = known.get(digests[name], CLEAN_RIGHT)
        if block[0] == names[0]:
            asked = [{"kind": "clean_right"}, *variants]
            todo = {n: sum(known.get(digests[n], v) is None for v in asked) for n in block}
            seconds = _seconds(victims, todo, source, images) * len(names) / len(block)
            foretell(seconds, f"{len(names) * len(variants)} cells of {len(images)} images")
        if new := {name: victims[name] for name in block if right_of[name] is None}:
            for name, right in clean_right(new, images, context).items():
                right_of[name] = array_to_text(right)
                known.put(digests[name], CLEAN_RIGHT, right_of[name])
        right = {name: text_to_bits(right_of[name], len(images)) for name in block}
        for number, variant in enumerate(variants):
            counted = {name: known.get(digests[name], variant) for name in block}
            missing = {name: victims[name] for name in block if counted[name] is None}
            if missing:
                found_now = transfer_cells(missing, variant, images, found, right, context)
                for name, (counts, fooled) in found_now.items():
                    counted[name] = {**counts, "fooled": array_to_text(fooled)}
                    known.put(digests[name], variant, counted[name])
            computed += len(missing)
            cells[number] |= counted
            progress.report(sum(map(len, cells)), "")
        if computed > saved:  # a row that is killed goes on after the last block
            known.save()
            saved = computed
    rows, fooled = [], []
    for variant, counted in zip(variants, cells, strict=True):
        for name, cell in counted.items():
            victim, seed = parsed(name, spec["seed"])
            counts = {key: value for key, value in cell.items() if key != "fooled"}
            fooled.append(cell["fooled"])
            rows.append(
                tidy_row(
                    (spec["source"], spec["seed"]),
                    (victim, seed),
                    spec["attack"],
                    variant,
                    counts,
                )
            )
    LOG.info("%d cells, %d of them computed now", len(rows), computed)
    single = {
        "indices": array_to_text(indices.astype("<i4")),
        "right": list(right_of.values()),
        "fooled": fooled,
    }
    if found is not None:
        _, sizes = answers_of_all({}, {"kind": AS_FOUND}, images, found["images"], context)
        success = found["success"].cpu().numpy()
        single["rms"] = array_to_text(np.where(success, sizes, np.nan).astype("<f4"))
    write_record(output, {**job.provenance(), "rows": rows, "answers": single})


def _seconds(victims, cells, source, images):
    """Return about how long it takes to compute so many cells of each of some victims."""
    asked = [(victims[name], count) for name, count in cells.items() if count]
    if source is not None and asked:
        asked.append((source, max(cells.values())))  # it answers to each variant once
    found = [(speed_of(network, images, gradient=False), count) for network, count in asked]
    return sum((len(images) + s.looks) * count * s.pass_ for s, count in found if s)
