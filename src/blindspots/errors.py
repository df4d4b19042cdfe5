"""The one exception that stands for a user's mistake rather than for ours."""


class UserError(Exception):
    """A mistake that the user can mend; its message is one sentence that says how.

    Steps print the message alone and exit with code 1. Every other exception is a defect of this
    package and keeps its traceback.
    """
