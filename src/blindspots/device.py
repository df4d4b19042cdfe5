"""Where and with how many threads tensors are computed."""

import logging
import os

from blindspots.errors import UserError

LOG = logging.getLogger(__name__)


def configure_torch(device, threads):
    """Set up torch for reproducible results and return the device.

    Parameters
    ----------
    device : str
        ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
    threads : int
        Threads within an operation.

    Returns
    -------
    torch.device

    Raises
    ------
    UserError
        If ``cuda`` is asked for and there is no usable GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as deterministic cuBLAS requires
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device is cuda, but torch sees no usable GPU; set device: auto or cpu")
    chosen = torch.device("cuda" if device != "cpu" and available else "cpu")
    LOG.info("device %s, %d threads, torch %s", chosen, threads, torch.__version__)
    return chosen
