"""The state of models and of torch: how a model is computed, and what code of others leaves."""

import sys
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import nn

# Where torch may round float32 to less.
PRECISION_UNITS = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,
    torch.backends.cudnn.rnn,
    torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv,
    torch.backends.mkldnn.rnn,
)
SWITCHES = (
    *((unit, "fp32_precision") for unit in PRECISION_UNITS),
    (torch.backends.cudnn, "enabled"),
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "deterministic"),
    (torch.backends.mkldnn, "enabled"),
    (torch.utils.deterministic, "fill_uninitialized_memory"),
)


def modules_of(model):
    """Return a model's modules; none of a function."""
    return list(model.modules()) if isinstance(model, nn.Module) else []


def parameters_of(model):
    """Return a model's parameters; none of a function, nor those that a first pass will make."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    return [parameter for parameter in parameters if not nn.parameter.is_lazy(parameter)]


def tensors_of(model):
    """Return all tensors that a model holds, in whatever attribute."""
    found = {}
    for module in modules_of(model):
        values = list(vars(module).values())
        for value in values[:]:
            if isinstance(value, dict):
                values += value.values()
            elif isinstance(value, list | tuple | set):
                values += value
        values += [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        found |= {id(value): value for value in values if isinstance(value, torch.Tensor)}
    return list(found.values())


@contextmanager
def frozen(model):
    """Put a model into evaluation mode without gradients of its weights, and restore it after.

    Functions and exported programs have no modes. Inside, torch computes in the types that it is
    given, without gradients, and compiled models as they were written: compiled ones allow a
    single gradient of an answer. What the model changes of torch is put back.
    """
    parameters = parameters_of(model)
    modes = [(module, module.training) for module in modules_of(model) if _has_mode(module)]
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        with ExitStack() as stack:
            stack.enter_context(_torch_restored())
            if "torch._dynamo" in sys.modules:  # without it nothing is compiled; it loads slowly
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(torch.inference_mode(False))
            for device in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(torch.no_grad())
            stack.enter_context(_precise())
            if isinstance(model, nn.Module):
                with suppress(NotImplementedError):  # of exported programs
                    model.eval()
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, want in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(want)


def _has_mode(module):
    return isinstance(getattr(module, "training", None), bool)  # frozen scripts have none


@contextmanager
def _precise():
    """Switch TF32 off, by which logits would move by more than the margins that successes keep."""
    before = [unit.fp32_precision for unit in PRECISION_UNITS]
    try:
        allowed = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # someone has used the newer names alone
        allowed = None
    if allowed:  # both say the same, or torch refuses to read the older one
        torch.backends.cudnn.allow_tf32 = False
    for unit in PRECISION_UNITS:
        unit.fp32_precision = "ieee"
    try:
        yield
    finally:
        if allowed:
            torch.backends.cudnn.allow_tf32 = True
        for unit, precision in zip(PRECISION_UNITS, before, strict=True):
            unit.fp32_precision = precision


@contextmanager
def restored(model=None):
    """Run code of others, and put back what it has changed, also where it raises.

    Of the model, if there is one: weights and buffers, their gradients and whether they have any,
    modes, hooks, attributes and submodules. Of torch: whether and how gradients are taken,
    autocast, default type and device, threads, precision and determinism.
    """
    undo = [_module_state(module) for module in modules_of(model)]
    undo += [_tensor_state(tensor) for tensor in tensors_of(model)]
    try:
        with _torch_restored():
            yield
    finally:
        for step in undo:
            step()


@contextmanager
def _torch_restored():
    """Set torch back to what it was."""
    undo = _torch_state()
    try:
        with torch.inference_mode(torch.is_inference_mode_enabled()):  # if one is left open inside
            yield
    finally:
        for step in undo:
            step()


def _torch_state():
    """Return functions that set torch back to what it is now."""
    pairs = [
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, torch.set_default_device),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    ]
    for device in ("cpu", "cuda"):
        for get, put in (
            (torch.is_autocast_enabled, torch.set_autocast_enabled),
            (torch.get_autocast_dtype, torch.set_autocast_dtype),
        ):
            pairs.append((lambda g=get, d=device: g(d), lambda value, p=put, d=device: p(d, value)))
    for place, name in SWITCHES:
        pairs.append(
            (
                lambda p=place, n=name: getattr(p, n),
                lambda value, p=place, n=name: setattr(p, n, value),
            )
        )
    return [_step(get, put, get()) for get, put in pairs]


def _step(get, put, before):
    def step():
        if get() != before:  # setting a default device to what it is costs time from then on
            put(before)

    return step


def _module_state(module):
    """Return a function that gives a module back its attributes, and these their entries."""
    attributes = vars(module)
    holders = [attributes, *(v for v in attributes.values() if isinstance(v, dict | list | set))]
    copies = [(holder, holder.copy()) for holder in holders]
    mode = module.training if _has_mode(module) else None

    def step():
        for holder, content in copies:  # in place: handles of hooks refer to them
            if isinstance(holder, list):
                holder[:] = content
            else:
                holder.clear()
                holder.update(content)
        if mode is not None and module.training is not mode:  # of scripts, kept elsewhere
            module.training = mode

    return step


def _tensor_state(tensor):
    """Return a function that gives a tensor back its values and its gradient."""
    values, wanted = tensor.detach().clone(), tensor.requires_grad
    gradient = tensor.grad if tensor.is_leaf else None

    def step():
        if tensor.shape != values.shape or tensor.dtype != values.dtype:
            tensor.data = values
        elif not torch.equal(tensor.detach(), values):
            tensor.data.copy_(values)
        if tensor.requires_grad != wanted:
            tensor.requires_grad_(wanted)
        if tensor.is_leaf and tensor.grad is not gradient:
            tensor.grad = gradient

    return step
