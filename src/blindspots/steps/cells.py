"""The cache of transfer cells: one small file for each set, victim and variant."""

import hashlib
import logging
from pathlib import Path

from blindspots.artifacts import canonical_json, read_record, write_record
from blindspots.errors import UserError

LOG = logging.getLogger(__name__)


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
        path = self._path(victim, variant)
        if not path.exists():
            return None
        try:
            cell = read_record(path)
        except UserError as error:
            LOG.warning("computed anew: %s", error)
            return None
        if cell.get("key") != self._key(victim, variant):
            LOG.warning("computed anew: %s is another cell", path)
            return None
        return cell["counts"]

    def put(self, victim, variant, counts):
        """Store the counts of a cell."""
        cell = {"key": self._key(victim, variant), "counts": counts}
        write_record(self._path(victim, variant), cell)

    def _key(self, victim, variant):
        text = canonical_json([*self.context, victim, variant])
        return hashlib.sha256(text.encode()).hexdigest()

    def _path(self, victim, variant):
        return self.folder / f"{self._key(victim, variant)}.json"
