"""Progress of long computations in the log."""

import logging
import time

LOG = logging.getLogger(__name__)


class Progress:
    """Reports progress and the time left to the log, at most once in five seconds.

    Parameters
    ----------
    what : str
    total : int
        Steps at the most.
    done : int
        Steps done before.
    """

    def __init__(self, what, total, done=0):
        self.what, self.total, self.before = what, total, done
        self.start = self.last = time.monotonic()

    def report(self, done, text):
        """Log the number of steps done, the time left at the most, and a text."""
        now = time.monotonic()
        if now - self.last >= 5:
            self.last = now
            left = (now - self.start) / (done - self.before) * (self.total - done)
            LOG.info("%s %d/%d, at most %.0f s left, %s", self.what, done, self.total, left, text)
