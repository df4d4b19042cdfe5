"""Where and with how many threads tensors are computed."""

import logging
import os

from blindspots.errors import UserError
from blindspots.gpu_lock import take_gpu, visible_gpus

LOG = logging.getLogger(__name__)


def configure_torch(device, threads):
    """Set up torch for reproducible results and return the device.

    Where several GPUs are visible, jobs that run at the same time take different ones. A scheduler
    that assigns one to a job makes only that one visible.

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
    # As use_deterministic_algorithms does, without loading the compiler of torch, which takes long.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # all of it is written first
    torch.backends.cudnn.allow_tf32 = False
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("device is cuda, but torch sees no usable GPU; set device: auto or cpu")
    if device == "cpu" or not available:
        chosen, why = torch.device("cpu"), "" if device == "cpu" else " (there is no usable GPU)"
    else:
        count = torch.cuda.device_count()
        position = take_gpu(visible_gpus(count)) if count > 1 else 0
        torch.cuda.set_device(position)
        chosen, why = torch.device("cuda", position), f" ({torch.cuda.get_device_name(position)})"
    LOG.info("device %s%s, %d threads, torch %s", chosen, why, threads, torch.__version__)
    return chosen
