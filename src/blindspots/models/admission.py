"""What a model must be before its answers are believed, and how it is called from then on.

A model may be a module, a script, a compiled or exported one, or a function. A few passes over a
few images show what it takes and returns, whether it writes into what it is given, and whether its
answer to an image is one answer: the same in every pass and beside other images. From then on a
call costs a few microseconds more than the model's own.
"""

from contextlib import contextmanager

import torch

from blindspots.errors import UserError
from blindspots.models.state import modules_of, parameters_of, tensors_of

# Images of those to come that a model is shown first, each with its negative; of large ones fewer,
# for what it keeps of each is large, too. And how many times it is shown them.
FEW, FEWEST, NUMBERS, LOOKS = 8, 2, 2**17, 6
TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# By so much an answer may differ, relative to the largest number: from pass to pass (a GPU may sum
# in another order), and beside other images, where other kernels sum in yet another.
REPEATED, REGROUPED = 4e-6, 3e-5
# The same in units of the last place, for models that compute in a type coarser than float32.
REPEATED_PLACES, REGROUPED_PLACES = 4, 8
PASSES, OTHERS = "in two passes over the same images", "with the other images of the batch"
MASKED = 30.0  # so far below all others a logit of minus infinity is put: it never wins


class ModelError(UserError, ValueError):
    """A model that cannot be attacked or evaluated, in one sentence."""


def admit(model, images, *, name="the model", gradients=False):
    """Look at a model that `blindspots.models.state.frozen` holds, and return how to call it.

    Parameters
    ----------
    model : torch.nn.Module or callable
        Maps images (B, ...) to logits (B, C) of a floating-point type, C >= 2. It is given images
        in the type of its weights.
    images : torch.Tensor of float32, shape (B, ...)
        Images that it will be given; the first few are looked at.
    name : str
        What sentences call it.
    gradients : bool
        Whether gradients with respect to the images are needed.

    Returns
    -------
    Admitted

    Raises
    ------
    ModelError
        If it is no model, raises, returns something else, has no gradient though one is needed, or
        if its answers differ from pass to pass or with the other images of the batch.
    """
    if not callable(model):
        raise ModelError(
            f"{name} must be a torch.nn.Module or a function from images to logits, "
            f"not {type(model).__name__}"
        )
    few = few_of(images).detach()
    return Admitted(model, torch.cat([few, 1 - few]), name, len(images), gradients)


def few_of(images):
    """Return the images (B, ...) that a model is shown first."""
    return images[: min(FEW, max(FEWEST, NUMBERS // max(1, images[:1].numel())))]


class Admitted:
    """A model that has been looked at: maps float32 images (B, ...) to float32 logits (B, C).

    Attributes
    ----------
    model : torch.nn.Module or callable
        As it was given.
    classes : int
    bytes : int
        What its layers return for one image; 0 of models without layers.
    copies : bool
        Whether it is given copies, because it writes into its input.
    """

    def __init__(self, model, images, name, count, gradients):
        self.model, self.name = model, name
        self.dtype, self.classes, self._rows = torch.float32, None, None
        self.copies = self._shares = self._masks = False
        self._settle(images, count)
        self._examine(images)
        if gradients:
            self._differentiate(images)

    def __call__(self, images):
        if images.dtype is not self.dtype:
            images = images.to(self.dtype)
        elif self.copies:
            images = images.clone()
        logits = self._answer(images)
        if (
            type(logits) is not torch.Tensor
            or logits.dtype is not torch.float32
            or logits.shape != (len(images), self.classes)
            or logits.device != images.device
        ):
            logits = self._usual(logits, images)
        if self._shares:
            logits = logits.clone()
        return _unmasked(logits) if self._masks else logits

    def beside_others(self, images):
        """Return the logits of images, computed among others than in one batch of them all."""
        if len(images) == 1:
            return self(torch.cat([images, 1 - images]))[:1]
        logits = images.new_empty(len(images), self.classes)
        for first in (0, 1):
            logits[first::2] = self(images[first::2].contiguous())
        return logits

    def bytes_for_gradient(self, images):
        """Return what a pass keeps for the gradient with respect to images, without weights."""
        weights, kept = {_place(tensor) for tensor in tensors_of(self.model)}, {}

        def note(tensor):
            kept[_place(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        points = images.clone().requires_grad_(True)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            logits = self(points)  # held, or what is kept were gone already
            return sum(size for place, size in kept.items() if place not in weights) + logits.nbytes

    def alike(self, logits, others):
        """Tell which rows of two answers (B, C) are one answer but for rounding, (B,)."""
        return _unlike(logits, others, self._regrouped, self._inner) <= 1

    def check_again(self, logits):
        """Raise ModelError unless the logits of the first images are what they were at first."""
        seen = self._seen[: min(len(self._seen) // 2, len(logits))]
        self._compare(logits[: len(seen)], seen, self._regrouped, self._inner, OTHERS)

    def _answer(self, images):
        try:
            return self.model(images) if self._rows is None else self._in_rows(images)
        except (MemoryError, OSError, torch.OutOfMemoryError, ModelError):
            raise
        except Exception as error:
            raise ModelError(
                f"{self.name} does not take images of shape {tuple(images.shape)} and type "
                f"{_short(images.dtype)} on {images.device}: {_line(error)}"
            ) from error

    def _in_rows(self, images):
        """Return the answer of a model that takes batches of one size alone."""
        answers = []
        for part in images.split(self._rows):
            last = part[-1:].expand(self._rows - len(part), *part.shape[1:])
            answers.append(self.model(torch.cat([part, last]))[: len(part)])
        return torch.cat(answers)

    def _usual(self, logits, images):
        """Return logits in float32, or say what came instead."""
        came, remedy = None, "only the logits"
        if not isinstance(logits, torch.Tensor):
            size = f" of {len(logits)}" if isinstance(logits, tuple | list | dict) else ""
            came = f"a {type(logits).__name__}{size}"
            if hasattr(logits, "logits"):
                remedy = "model(images).logits"
        elif logits.dtype not in TYPES:
            came = f"a tensor of type {_short(logits.dtype)}"
        elif logits.ndim != 2 or len(logits) != len(images):
            came = f"one of shape {tuple(logits.shape)}"
        elif self.classes is not None and logits.shape[1] != self.classes:
            came = f"one of shape {tuple(logits.shape)}, where it had {self.classes} classes before"
        elif logits.device != images.device:
            came = f"one on {logits.device}, where the images are on {images.device}"
        if came:
            raise ModelError(
                f"{self.name} must return logits of shape (B, C) as a floating-point tensor, not "
                f"{came}, for {len(images)} images; wrap it so that it returns {remedy}"
            )
        return logits.float()

    def _settle(self, images, count):
        """Find the type, and if need be the number, of images that the model takes."""
        weights = [p.dtype for p in parameters_of(self.model) if p.dtype in TYPES]
        types = sorted(TYPES, key=lambda dtype: dtype not in weights[:1])
        refusal = None
        for self._rows in (None, count):
            for self.dtype in types:
                try:
                    with _layers(self.model) as seen:
                        logits = self._usual(self._answer(images.to(self.dtype, copy=True)), images)
                except ModelError as error:
                    if error.__cause__ is None:  # it answers, though not with logits
                        raise
                    refusal = refusal or error
                    continue
                self.classes = logits.shape[1]
                if self.classes < 2:
                    raise ModelError(
                        f"{self.name} must have at least two classes, not one logit for an image"
                    )
                self.bytes = seen["bytes"] // len(images)
                # Of all layers but those that return logits: there the largest may be a mask.
                inner = [size for size, shape in seen["largest"] if shape != logits.shape]
                self._inner = max(inner, default=0.0)
                coarsest = max(torch.finfo(dtype).eps for dtype in {self.dtype, *seen["types"]})
                coarse = coarsest if coarsest > torch.finfo(torch.float32).eps else 0
                self._repeated = max(REPEATED, REPEATED_PLACES * coarse)
                self._regrouped = max(REGROUPED, REGROUPED_PLACES * coarse)
                return
        raise refusal

    def _examine(self, images):
        """Compare answers of several passes, and what the model leaves of its input."""
        looks = []

        def look(rows):
            handed = images[rows].to(self.dtype, copy=True)
            version = handed._version
            raw = self._answer(handed)
            looks.append((handed, images[rows].to(self.dtype), version, raw))
            return self._usual(raw, handed).clone()

        count = len(images)
        every = torch.arange(count, device=images.device)
        whole = look(every)
        self._compare(look(every), whole, self._repeated, 0, PASSES)
        for groups in ([every.flip(0)], [every[::2], every[1::2]], [every[:1], every[1:]]):
            order = torch.cat(groups)
            logits = torch.cat([look(rows) for rows in groups])
            self._compare(logits, whole[order], self._regrouped, self._inner, OTHERS)
        self.copies = any(
            handed._version != version or not torch.equal(handed, rows)
            for handed, rows, version, _ in looks
        )
        places = [_place(raw) for *_, raw in looks]
        foreign = {_place(handed) for handed, *_ in looks}
        foreign |= {_place(tensor) for tensor in tensors_of(self.model)}
        self._shares = len(set(places)) < len(places) or not foreign.isdisjoint(places)
        self._masks = bool(whole.isneginf().any())
        self._seen = _unmasked(whole) if self._masks else whole

    def _differentiate(self, images):
        """Check that there is a gradient, and that taking it changes no answer."""
        try:
            logits, gradient, changed = self._gradient(images)
        except ModelError:
            if self.copies:
                raise
            self.copies = True  # the leaf of a graph may not be written into
            logits, gradient, changed = self._gradient(images)
        self.copies |= changed
        if gradient is None:
            raise ModelError(
                f"{self.name} returns logits without a gradient with respect to the images; "
                "nothing between them may be detached, under torch.no_grad, rounded or an argmax"
            )
        self._compare(logits, self._seen, self._repeated, 0, PASSES)

    def _gradient(self, images):
        points = images.clone().requires_grad_(True)
        version, gradient = points._version, None
        with torch.enable_grad():
            logits = self(points)
            if logits.requires_grad:
                try:
                    (gradient,) = torch.autograd.grad(logits.sum(), points, allow_unused=True)
                except (MemoryError, OSError, torch.OutOfMemoryError):
                    raise
                except Exception as error:
                    raise ModelError(
                        f"{self.name} has no gradient with respect to images of shape "
                        f"{tuple(images.shape)}: {_line(error)}"
                    ) from error
        changed = points._version != version or not torch.equal(points.detach(), images)
        return logits.detach(), gradient, changed

    def _compare(self, logits, others, allowed, inner, between):
        unlike = _unlike(logits, others, allowed, inner)
        row = unlike.argmax()
        if not unlike[row] <= 1:
            top, apart = _largest(others[row].amax()), _apart(logits[row], others[row]).amax()
            raise ModelError(
                f"{self.name} answers the same images differently {between}: its logits differ by "
                f"{apart:.3g} where the largest is {top:.3g}; use a network that gives each image "
                "one answer (without dropout, noise or statistics of the batch in evaluation mode)"
            )


@contextmanager
def _layers(model):
    """Note how many bytes the layers of a model return, of what types, and the largest numbers."""
    seen = {"bytes": 0, "types": set(), "largest": []}

    def note(module, inputs, output):
        if isinstance(output, torch.Tensor):
            seen["bytes"] += output.nbytes
            if output.dtype in TYPES and not output.is_meta:
                seen["types"].add(output.dtype)
                seen["largest"].append((_largest(output), output.shape))

    layers = [m for m in modules_of(model) if not isinstance(m, torch.jit.ScriptModule)]
    hooks = [m.register_forward_hook(note) for m in layers if not list(m.children())]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _apart(logits, others):
    """Return the differences of two answers; infinite where one alone is no number."""
    same = (logits == others) | (logits.isnan() & others.isnan())
    return torch.where(same, 0.0, (logits - others).abs()).nan_to_num(torch.inf, torch.inf)


def _unlike(logits, others, allowed, inner):
    """Return the largest difference of each row, (B,), in units of what is allowed.

    Relative to the logit itself or to the winner, whichever is larger, and to the largest number
    inside the network: not to a class that is masked by a logit of -1e9.
    """
    winners = others.amax(1, keepdim=True).abs()
    sizes = torch.maximum(others.abs(), winners).nan_to_num(0.0, 0.0, 0.0).clamp_min(inner)
    apart = _apart(logits, others)
    return torch.where(apart > 0, apart / (allowed * sizes), 0.0).amax(1)


def _largest(numbers):
    """Return the largest size of the finite numbers in a tensor."""
    sizes = numbers.detach().abs()
    return torch.where(sizes.isfinite(), sizes, 0).amax().item() if sizes.numel() else 0.0


def _unmasked(logits):
    masked = logits.detach().isneginf()
    floor = logits.detach().masked_fill(masked, torch.inf).amin(1, keepdim=True) - MASKED
    return torch.where(masked, floor, logits)


def _place(tensor):
    """Return where a tensor's numbers lie; of one without a single storage, which tensor it is."""
    if tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage().data_ptr()


def _short(dtype):
    return str(dtype).removeprefix("torch.")


def _line(error):
    """Return an exception in one line: of scripts, which print a traceback, the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    scripted = lines[0].startswith("The following operation failed in the TorchScript")
    text = f"{type(error).__name__}: {lines[-1] if scripted else lines[0]}"
    return text.rstrip(": .")
