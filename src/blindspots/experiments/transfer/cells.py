"""The cache of transfer cells: a file for each set, with its cells of all victims and variants.

A cell holds its counts and which images are fooled (``fooled``, as `bits` writes it). What a victim
answers to the clean images is a cell of its own, of the variant `CLEAN_RIGHT`.
"""

import hashlib
import logging
from pathlib import Path

from blindspots.artifacts import canonical_json, read_record, write_record
from blindspots.errors import UserError

LOG = logging.getLogger(__name__)
CLEAN_RIGHT = {"kind": "clean_right"}


class CellCache:
    """Cells of one set that earlier runs computed; its file may be deleted at any time.

    Parameters
    ----------
    folder : path-like
    codes : dict of str to str
        What tells the code of each kind of variants from any other.
    *context
        What tells this set's cells from others: digests of the set and the source, code,
        versions, chunk, threads, device.
    """

    def __init__(self, folder, codes, *context):
        context = canonical_json(context)
        self.path = Path(folder) / f"{hashlib.sha256(context.encode()).hexdigest()}.json"
        self.context, self.codes = context, codes
        self._cells = self._read()

    def get(self, victim, variant):
        """Return a cell, or None where it is not known."""
        return self._cells.get(self._key(victim, variant))

    def put(self, victim, variant, cell):
        """Add a cell; `save` writes it."""
        self._cells[self._key(victim, variant)] = cell

    def save(self):
        """Write all cells, those of victims that are no longer asked for too."""
        write_record(self.path, {"context": self.context, "cells": self._cells})

    def _read(self):
        if not self.path.exists():
            return {}
        try:
            record = read_record(self.path)
        except UserError as error:
            LOG.warning("computed anew: %s", error)
            return {}
        if record.get("context") != self.context:
            LOG.warning("computed anew: %s is of another set", self.path)
            return {}
        return record["cells"]

    def _key(self, victim, variant):
        code = self.codes.get(variant["kind"].removesuffix("_right"), "")
        return f"{victim} {code} {canonical_json(variant)}"
