"""The cache of transfer cells: one small file for each set, victim and variant."""

import hashlib
import json
from pathlib import Path

from blindspots.artifacts import canonical_json, write_text


class CellCache:
    """Cells that earlier runs computed; any of its files may be deleted at any time.

    Parameters
    ----------
    folder : path-like
    *context
        What all keys share: digests of the set and the source, code, versions, device.
    """

    def __init__(self, folder, *context):
        self.folder, self.context = Path(folder), context

    def get(self, victim, variant):
        """Return the counts of a cell, or None where it is not known or its file is damaged."""
        try:
            cell = json.loads(self._path(victim, variant).read_text(encoding="utf-8"))
            return cell["counts"] if cell["key"] == self._key(victim, variant) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, victim, variant, counts):
        """Store the counts of a cell."""
        cell = {"key": self._key(victim, variant), "counts": counts}
        write_text(self._path(victim, variant), canonical_json(cell) + "\n")

    def _key(self, victim, variant):
        text = canonical_json([*self.context, victim, variant])
        return hashlib.sha256(text.encode()).hexdigest()

    def _path(self, victim, variant):
        return self.folder / f"{self._key(victim, variant)}.json"
