"""Progress of long computations: in the log, and on a terminal if there is one."""

import logging
import math
import os
import time
from datetime import timedelta

LOG = logging.getLogger(__name__)
SECONDS = 5  # between two reports
WORTH_A_LINE = 10  # seconds: what takes less is not foretold


def announce(text):
    """Say something once that a user should see, where progress is shown."""
    LOG.info(text)


def foretell(seconds, what):
    """Say about how long something will take; nothing where that is not known, or soon over.

    Parameters
    ----------
    seconds : float or None
    what : str
    """
    if seconds is not None and seconds >= WORTH_A_LINE:
        announce(f"about {duration(seconds)} for {what}")


def duration(seconds):
    """Return a time in words."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    if seconds < 6000:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


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

    def report(self, done, text=""):
        """Log the number of steps done, the time left at the most, and a text."""
        now = time.monotonic()
        if now - self.last >= SECONDS:
            self.last = now
            speed = (now - self.start) / (done - self.before)
            rest = max(0, self.total - done)  # a line search may overshoot
            left = timedelta(seconds=round(speed * rest))
            line = f"{self.what} {done}/{self.total}, at most about {left} left"
            LOG.info(", ".join(filter(None, (line, text))))


def lead_nowhere(stream):
    """Let a stream that failed lead nowhere, so that what it still holds does not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
