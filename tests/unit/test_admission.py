"""What models may be and do: taken as they are, or refused in one sentence."""

import functools
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blindspots.attacks.best_of import best_of
from blindspots.attacks.chunks import KEPT, VECTORS, _share_of_a_batch
from blindspots.attacks.ddn import ddn
from blindspots.attacks.lbfgs import lbfgs
from blindspots.attacks.objective import Objective
from blindspots.errors import UserError
from blindspots.evaluation.transfer import Context, answers_of_all
from blindspots.models.admission import ModelError, admit
from blindspots.models.inference import answers_of, logits_of
from blindspots.models.state import frozen

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(10, 64, generator=GENERATOR) / 2
IMAGES = torch.rand(50, 1, 8, 8, generator=GENERATOR)
ENGINES = [
    pytest.param(lbfgs, id="lbfgs"),
    pytest.param(functools.partial(ddn, steps=30), id="ddn"),
    pytest.param(best_of, id="best_of"),
]


def z(images):
    return images.flatten(1) @ WEIGHT.T.to(images.dtype)


LABELS = z(IMAGES).argmax(1)


class N(nn.Module):
    """The module of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def linear(dtype=torch.float32):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(WEIGHT)
    return network.eval().to(dtype)


@pytest.fixture(scope="module")
def wanted():
    return lbfgs(N(z), IMAGES, LABELS)


# Types --------------------------------------------------------------------------------------------


def lowered(images):
    with torch.autocast("cpu", torch.bfloat16):
        return linear()(images)


TYPED = {
    "float64 logits": N(lambda x: z(x).double()),
    "bfloat16 logits": N(lambda x: z(x).bfloat16()),
    "float16 logits": N(lambda x: z(x).half()),
    "autocast inside": N(lowered),
    "float64 weights": linear(torch.float64),
    "bfloat16 weights": linear(torch.bfloat16),
    "float16 weights": linear(torch.float16),
    "float64 weights of a function": lambda x: x.flatten(1) @ WEIGHT.T.double(),
}


@pytest.mark.parametrize("attack", ENGINES)
@pytest.mark.parametrize("kind", TYPED)
def test_other_types_are_cast(attack, kind, wanted):
    """Rounding of a coarse type costs a little; what succeeds survives passes of other sizes."""
    model = TYPED[kind]
    result = attack(model, IMAGES, LABELS)
    assert result.success.all()
    rms = result.rms.mean().item()
    assert rms == pytest.approx(wanted.rms.mean().item(), rel=0.05 if "float64" in kind else 0.15)
    dtype = torch.float32 if "weights" not in kind else getattr(torch, kind.split()[0])
    with torch.no_grad():
        assert (model(result.images.to(dtype)).argmax(1) != LABELS).all()


# Noise --------------------------------------------------------------------------------------------


def seeded(images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return z(F.dropout(images, 0.1))


def counted(images, calls=[]):  # noqa: B006
    calls.append(len(images))
    return z(images) + 0.01 * len(calls)


PASSES, OTHERS = "two passes over the same images", "the other images of the batch"
NOISY = {
    "dropout": (lambda x: z(F.dropout(x, 0.1)), PASSES),
    "noise": (lambda x: z(x) + 1e-3 * torch.randn(len(x), 10), PASSES),
    "counter": (counted, PASSES),
    "dropout with gradients": (lambda x: z(F.dropout(x, 0.1, torch.is_grad_enabled())), PASSES),
    "dropout with a seed": (seeded, OTHERS),
    "batch statistics": (lambda x: z(F.batch_norm(x, None, None, training=True)), OTHERS),
    "largest of the batch": (lambda x: z(x / x.amax()), OTHERS),
    "neighbour": (lambda x: z(x) + 0.1 * z(x.roll(1, 0)), OTHERS),
    "position": (lambda x: z(x) + 0.1 * torch.arange(len(x))[:, None] * WEIGHT[:, 0], OTHERS),
    "size of the batch": (lambda x: z(x) * (1 + 1e-3 * len(x)), OTHERS),
}


@pytest.mark.parametrize("attack", ENGINES)
@pytest.mark.parametrize("kind", NOISY)
def test_answers_that_are_not_one_answer_are_refused(attack, kind):
    function, told = NOISY[kind]
    with pytest.raises(ValueError, match=rf"{told}.* differ by \d") as caught:
        attack(N(function), IMAGES, LABELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_one_image_alone_is_enough_to_tell(count):
    with pytest.raises(ModelError, match=OTHERS):
        lbfgs(N(NOISY["neighbour"][0]), IMAGES[:count], LABELS[:count])


@pytest.mark.parametrize("kind", ["dropout", "batch statistics"])
def test_evaluation_does_not_believe_them_either(kind):
    """As a source that is asked for its clean answers, and in a row; steps print the sentence."""
    function, told = NOISY[kind]
    with pytest.raises(UserError, match=f"network of a.safetensors.*{told}"):
        logits_of(N(function), IMAGES, 20, name="the network of a.safetensors")
    networks = {"quiet": linear(), None: N(function)}
    with pytest.raises(UserError, match=f"the source model.*{told}"):
        answers_of_all(networks, {"kind": "clean"}, IMAGES, None, Context(range(50), (), 20))


def clean_ones(images):
    """Tell which images are of those that are attacked, or their negatives."""
    known = torch.cat([IMAGES, 1 - IMAGES]).flatten(1)
    return (images.detach().flatten(1)[:, None] == known).all(2).any(1)


def away(images):
    return z(images) + 0.3 * torch.randn(len(images), 10) * ~clean_ones(images)[:, None]


def large(images):
    return z(images) + (0.3 * torch.randn(len(images), 10) if len(images) >= 40 else 0)


def beside_adversarial(images):
    return z(images) * (1 + 0.3 * (~clean_ones(images)).float().sum())


@pytest.mark.parametrize("attack", ENGINES[:2])
@pytest.mark.parametrize("function", [away, large, beside_adversarial])
def test_noise_that_hides_from_clean_images_makes_failures(attack, function):
    torch.manual_seed(0)
    goals = (LABELS + 1) % 10
    for targets in (None, goals):
        result = attack(N(function), IMAGES, LABELS, targets=targets)
        with torch.no_grad():
            answers = z(result.images).argmax(1)
        reached = answers != LABELS if targets is None else answers == goals
        assert reached[result.success].all()
        failed = ~result.success
        assert torch.equal(result.images[failed], IMAGES[failed])
        assert result.rms[failed].isnan().all() and result.kkt_residual[failed].isnan().all()
        if targets is None:
            assert (result.targets[failed] == -1).all()
        if function is away:
            assert failed.all()


def test_noise_of_large_batches_is_seen_where_images_are_evaluated():
    with pytest.raises(ModelError, match=OTHERS):
        logits_of(N(large), IMAGES, 50)
    with pytest.raises(ModelError, match=f"model a.*{OTHERS}"):
        answers_of_all({"a": N(large)}, {"kind": "clean"}, IMAGES, None, Context(range(50), (), 50))


def test_noise_now_and_then_is_no_success():
    torch.manual_seed(3)

    def sometimes(images):
        return z(images) + 9 * torch.randn(len(images), 10) * (torch.rand(()) < 0.05)

    found = 0
    for _ in range(20):
        try:
            result = ddn(N(sometimes), IMAGES, LABELS, steps=30)
        except ModelError:
            continue
        found += 1
        assert (z(result.images).argmax(1) != LABELS)[result.success].all()
    assert found > 2


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(
            *(nn.Conv2d(1, 32, 5, padding=2), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(64, 10),
        ),
        N(lambda x: z(300 * x) - 300 * z(x).mean(1, keepdim=True)),
        N(lambda x: z(x).log_softmax(1)),
        linear(torch.bfloat16),
    ],
    ids=["conv", "cancellation", "log_softmax", "bfloat16"],
)
def test_rounding_is_no_noise(network):
    with frozen(network):
        model = admit(network, IMAGES, gradients=True)
        logits, others = model(IMAGES), model.beside_others(IMAGES)
        assert model.alike(logits, others).all()
        model.check_again(logits)


# Memory of ours -----------------------------------------------------------------------------------


def scaled(images):
    images.data.mul_(0.9)
    return z(images)


def shifted(images):
    images.sub_(0.1)
    return z(images)


def with_numpy(images):
    array = images.detach().numpy()
    array *= 0.9
    return z(images)


def clipped(images):
    images.data.clamp_(0.2, 0.8)
    return z(images)


def in_grad_mode(images):
    kept = images
    images = images.clone()
    if torch.is_grad_enabled():
        kept.data.zero_()
    return z(images)


def in_large_batches(images):
    own = images.clone()
    if len(images) > 20:
        images.data.mul_(0.5)
    return z(own)


def earlier(images, seen=[]):  # noqa: B006
    for tensor in seen:
        tensor.data.fill_(0.5)
    seen[:] = [images]
    return z(images.clone())


WRITERS = {
    "scaled": (scaled, lambda x: z(0.9 * x)),
    "shifted": (shifted, lambda x: z(x - 0.1)),
    "numpy": (with_numpy, lambda x: z(0.9 * x)),
    "clipped": (clipped, lambda x: z(x.clamp(0.2, 0.8))),
    "relu": (nn.Sequential(nn.ReLU(inplace=True), linear()), z),
    "with gradients": (in_grad_mode, z),
    "in large batches": (in_large_batches, z),
    "earlier input": (earlier, z),
}


@pytest.mark.parametrize("attack", ENGINES)
@pytest.mark.parametrize("kind", WRITERS)
def test_networks_that_write_into_their_input(attack, kind):
    """The distortion reported is that of the images returned, and they succeed as they are."""
    function, meant = WRITERS[kind]
    network = function if isinstance(function, nn.Module) else N(function)
    images = IMAGES.clone()
    labels = meant(images).argmax(1)
    result = attack(network, images, labels)
    assert torch.equal(images, IMAGES)
    assert result.success.all()
    rms = (result.images - images).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(result.rms, rms, rtol=1e-4, atol=1e-7)
    assert (meant(result.images).argmax(1) != labels).all()


def test_victims_do_not_see_what_others_write():
    seen = []

    def look(images):
        seen.append(images.clone())
        return z(images)

    networks = {"a": N(scaled), "b": N(look)}
    images = IMAGES.clone()
    answers, _ = answers_of_all(
        networks, {"kind": "clean"}, images, None, Context(range(50), (), 50)
    )
    assert torch.equal(images, IMAGES)
    assert any(torch.equal(part, IMAGES) for part in seen)
    assert torch.equal(torch.from_numpy(answers["b"]), LABELS)
    assert torch.equal(torch.from_numpy(answers["a"]), z(0.9 * IMAGES).argmax(1))


def test_what_a_model_changes_of_torch_is_put_back():
    """Before the next victim answers, and after an attack; a factory's changes, too."""

    def changes(images):
        logits = z(images)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        return logits

    state = torch.get_default_dtype(), torch.get_num_threads()
    seen = []

    def look(images):
        seen.append((torch.get_default_dtype(), torch.get_num_threads()))
        return z(images)

    networks = {"a": N(changes), "b": N(look)}
    answers_of_all(networks, {"kind": "clean"}, IMAGES, None, Context(range(50), (), 20))
    assert set(seen) == {state}
    assert lbfgs(N(changes), IMAGES[:5], LABELS[:5]).success.all()
    assert (torch.get_default_dtype(), torch.get_num_threads()) == state


def test_logits_that_lie_in_the_memory_of_others():
    """A view of the images, and a buffer that the next pass overwrites."""
    images = torch.rand(20, 10, generator=torch.Generator().manual_seed(1))
    labels = images.argmax(1)
    for network in (nn.Identity(), nn.Flatten(), N(lambda x: x.view(len(x), -1))):
        result = lbfgs(network, images, labels)
        assert result.success.all() and (result.images.argmax(1) != labels).all()
    buffers = {}

    def buffered(images):
        logits = z(images)
        if not logits.requires_grad:
            logits = buffers.setdefault(len(images), torch.empty_like(logits)).copy_(logits)
        return logits

    with frozen(N(buffered)):
        model = admit(N(buffered), IMAGES)
        first = model(IMAGES)
        kept = first.clone()
        model(1 - IMAGES)
        assert torch.equal(first, kept)


def test_ordinary_networks_get_the_images_themselves():
    places = []

    def look(images):
        places.append(images.untyped_storage().data_ptr())
        return z(images)

    with frozen(N(look)):
        model = admit(N(look), IMAGES, gradients=True)
        model(IMAGES)
    assert places[-1] == IMAGES.untyped_storage().data_ptr()


# What a model is and returns ----------------------------------------------------------------------


def exported(**options):
    return torch.export.export(linear(), (IMAGES,), **options).module()


def scripted(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(linear())


MODELS = {
    "function": lambda: z,
    "partial": lambda: functools.partial(F.linear, weight=WEIGHT.view(10, 64)),
    "script": lambda: scripted(torch.jit.script),
    "trace": lambda: scripted(lambda network: torch.jit.trace(network, IMAGES)),
    "frozen script": lambda: scripted(lambda network: torch.jit.freeze(torch.jit.script(network))),
    "exported": exported,
    "exported for any batch": lambda: exported(dynamic_shapes=({0: torch.export.Dim("b")},)),
    "compiled": lambda: torch.compile(linear(), backend="aot_eager"),
    "compiled function": lambda: torch.compile(z, backend="aot_eager"),
    "masked class": lambda: N(lambda x: z(x) + torch.tensor([0.0] * 9 + [-torch.inf])),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", ENGINES[:2])
@pytest.mark.parametrize("kind", MODELS)
def test_models_of_all_kinds(attack, kind):
    model = MODELS[kind]()
    images = IMAGES.flatten(1) if kind == "partial" else IMAGES
    labels = z(IMAGES).index_fill(1, torch.tensor([9]), -torch.inf).argmax(1)
    labels = labels if kind == "masked class" else LABELS
    result = attack(model, images, labels)
    assert result.success.all()
    assert (z(result.images).argmax(1) != LABELS)[labels == LABELS].all() or "mask" in kind
    assert torch.equal(logits_of(model, images, 50).argmax(1), labels)


class Output(dict):
    @property
    def logits(self):
        return self["logits"]


REFUSED = {
    "tuple": (lambda x: (z(x), x), "not a tuple of 2"),
    "dict": (lambda x: {"logits": z(x)}, "not a dict of 1"),
    "output with logits": (lambda x: Output(logits=z(x)), "returns model(images).logits"),
    "nothing": (lambda x: None, "not a NoneType"),
    "array": (lambda x: z(x).detach().numpy(), "not a ndarray"),
    "one number": (lambda x: z(x)[:, 0], "one of shape (16,)"),
    "one class": (lambda x: z(x)[:, :1], "at least two classes"),
    "maps": (lambda x: z(x)[:, :, None, None], "one of shape (16, 10, 1, 1)"),
    "other batch": (lambda x: z(x)[1:], "one of shape (15, 10)"),
    "scalar": (lambda x: z(x).sum(), "one of shape ()"),
    "classes that change": (lambda x: z(x)[:, : min(len(x), 10)], "10 classes before"),
    "labels": (lambda x: z(x).argmax(1), "a tensor of type int64"),
    "votes": (lambda x: F.one_hot(z(x).argmax(1), 10), "a tensor of type int64"),
    "complex": (lambda x: z(x) + 0j, "a tensor of type complex64"),
    "elsewhere": (lambda x: z(x).to("meta"), "one on meta, where the images are on cpu"),
    "detached": (lambda x: z(x).detach(), "without a gradient"),
    "from numpy": (lambda x: torch.from_numpy(z(x).detach().numpy()), "without a gradient"),
    "other shape": (nn.Linear(10, 10), "does not take images of shape (16, 1, 8, 8)"),
    "own error": (lambda x: {}["key"], "does not take images of shape (16, 1, 8, 8)"),
    "text": ("resnet18", "must be a torch.nn.Module or a function"),
    "list": ([linear()], "must be a torch.nn.Module or a function"),
}


@pytest.mark.parametrize("attack", ENGINES)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_model_is_told_in_a_sentence(attack, kind):
    function, told = REFUSED[kind]
    model = N(function) if callable(function) and not isinstance(function, nn.Module) else function
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        attack(model, IMAGES, LABELS)
    assert "\n" not in str(caught.value)


def test_image_that_is_detached_inside_has_no_gradient():
    network = nn.Sequential(N(lambda x: x.detach()), linear())
    with pytest.raises(ValueError, match="without a gradient"):
        lbfgs(network, IMAGES, LABELS)


def test_logits_that_are_no_numbers_are_failures():
    """Also beside images with numbers; such an answer is never right."""

    def poisoned(images):
        return torch.where((images.flatten(1)[:, :1] < 0.3), torch.nan, z(images))

    result = lbfgs(N(poisoned), IMAGES, LABELS)
    with torch.no_grad():
        assert poisoned(result.images)[result.success].isfinite().all()
    assert result.success.any()
    assert not lbfgs(N(lambda x: z(x) * torch.nan), IMAGES[:5], LABELS[:5]).success.any()
    answers = answers_of(torch.tensor([[0.0, torch.nan], [1.0, 0.0], [0.0, -torch.inf]]))
    assert answers.tolist() == [-1, 0, 0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": IMAGES.numpy()}, "images must be a float32 tensor.*torch.as_tensor"),
        ({"images": IMAGES.tolist()}, "images must be a float32 tensor.*not list"),
        ({"images": (255 * IMAGES).byte()}, r"not torch.uint8; give images.float\(\) / 255"),
        ({"images": IMAGES.double()}, r"not torch.float64; give images.float\(\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "at least one image"),
        ({"images": torch.zeros(50, 0)}, "at least one pixel"),
        ({"labels": LABELS.numpy()}, "labels must be an int64 tensor.*not ndarray"),
        ({"labels": LABELS.tolist()}, "labels must be an int64 tensor.*not list"),
        ({"labels": LABELS.float()}, r"not torch.float32; give labels.long\(\)"),
        ({"labels": LABELS.int()}, r"not torch.int32; give labels.long\(\)"),
        ({"labels": LABELS[:, None]}, r"shape \(50,\), not one of shape \(50, 1\)"),
        ({"labels": None}, "not NoneType"),
        ({"labels": LABELS + 5}, "labels must lie in 0 to 9"),
        ({"targets": LABELS + 10}, "targets must lie in 0 to 9"),
        ({"targets": 3}, "targets must be an int64 tensor.*not int"),
    ],
)
def test_images_and_labels_of_other_kinds(change, told):
    arguments = {"images": IMAGES, "labels": LABELS, "targets": None, **change}
    with pytest.raises(ValueError, match=told):
        lbfgs(N(z), arguments["images"], arguments["labels"], targets=arguments["targets"])


@pytest.mark.parametrize("value", ["3", 2.5, None])
def test_options_that_are_no_whole_numbers(value):
    with pytest.raises(ValueError, match="must be a whole number, not"):
        lbfgs(N(z), IMAGES, LABELS, chunk=value)
    with pytest.raises(ValueError, match="must be a whole number, not"):
        ddn(N(z), IMAGES, LABELS, steps=value)


# Memory -------------------------------------------------------------------------------------------


class Gpu:
    """Stands for the images of a GPU, of 3 x 8 x 8 pixels."""

    device = torch.device("cuda")

    def __getitem__(self, rows):
        return torch.zeros(3, 8, 8) if isinstance(rows, int) else torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize("log2", [33, 37.1, 38.9])
def test_batches_on_a_gpu_take_an_eighth_of_its_memory(monkeypatch, log2):
    """Of all its memory, whatever is free, rounded down to a power of two."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid(), nn.Flatten())
    size = KEPT * 3 * 4 * 64 * 4 + VECTORS * 3 * 64 * 4  # three layers of 4 x 8 x 8 numbers
    properties = SimpleNamespace(total_memory=2**log2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    with frozen(network):
        model = admit(network, torch.rand(2, 3, 8, 8), gradients=True)
        assert _share_of_a_batch(model, Gpu()) == size / 2 ** (int(log2) - 3)


def test_functions_without_layers_are_measured_by_what_they_keep():
    weight = torch.rand(4, 3, 3, 3)

    def network(images):
        hidden = F.conv2d(images, weight, padding=1).sigmoid()
        return (hidden * hidden).sum((2, 3))

    with frozen(network):
        model = admit(network, torch.rand(5, 3, 8, 8), gradients=True)
        kept = model.bytes_for_gradient(torch.rand(1, 3, 8, 8))
    assert 4 * 64 * 4 <= kept <= 10 * 64 * 4  # hidden; and images and weights


def test_batches_that_do_not_fit_are_halved(monkeypatch):
    """And one image that does not fit is the machine's failure."""

    def bounded(images, most=13):
        if len(images) > most:
            raise torch.OutOfMemoryError("out of memory")
        return z(images)

    few = {"steps": 5}
    monkeypatch.setattr("blindspots.models.admission.FEW", 2)
    result = ddn(N(bounded), IMAGES, LABELS, **few)
    monkeypatch.undo()
    parts = [
        ddn(N(z), x, y, **few) for x, y in zip(IMAGES.split(13), LABELS.split(13), strict=True)
    ]
    assert torch.equal(result.success, torch.cat([part.success for part in parts]))
    with pytest.raises(torch.OutOfMemoryError):
        ddn(N(functools.partial(bounded, most=0)), IMAGES, LABELS, **few)


def test_objective_takes_what_is_admitted():
    with frozen(N(z)):
        model = admit(N(lambda x: z(x).double()), IMAGES, gradients=True)
        logits = Objective(model, IMAGES.shape[1:], LABELS, None).logits(IMAGES.flatten(1))
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(("shape", "few"), [((1, 28, 28), 8), ((3, 64, 64), 8), ((3, 224, 224), 2)])
def test_fewer_large_images_are_looked_at(shape, few):
    """What a network keeps of each for the gradient is large, too; noise is found all the same."""
    seen = []

    def mean(images):
        seen.append(len(images))
        return images.mean((2, 3)) @ torch.ones(shape[0], 3)

    images = torch.rand(20, *shape)
    logits = logits_of(mean, images, 20)
    assert max(seen[:-1]) == 2 * few and seen[-1] == 20 and len(logits) == 20
    with pytest.raises(ModelError, match="differently in two passes"):
        logits_of(lambda images: mean(images) + torch.rand(len(images), 3), images, 20)
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="with the other images"):
        logits_of(lambda images: mean(images) - mean(images).mean(), images, 20)
