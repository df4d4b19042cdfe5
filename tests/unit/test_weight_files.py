"""Weights from files of others: what is read, what is refused, and strict loading."""

import io
import logging
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from blindspots.errors import UserError
from blindspots.models.weight_digest import describe
from blindspots.models.weight_files import load_strictly, read_weights

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
CAUGHT = {"capture_output": True, "text": True, "check": True}
SUFFIXES = (".safetensors", ".pt", ".pth")


def network():
    """Return a small network with a buffer, with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    """Write what a file shall hold, and return its path."""

    def put(value, suffix=".pt", **options):
        path = tmp_path / f"weights{suffix}"
        if isinstance(value, bytes):
            path.write_bytes(value)
        elif suffix == ".safetensors":
            path.write_bytes(save_safetensors(value))
        else:
            path.write_bytes(saved(value, **options))
        return path

    return put


def refused(function, *arguments):
    """Return the sentence by which something is refused."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text and ";" in text
    return text


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


# The digest ---------------------------------------------------------------------------------------


def test_description_is_of_the_content(write, tmp_path):
    path = write(network().state_dict(), ".safetensors")
    found = describe(path)
    assert found["format"] == "safetensors" and re.fullmatch("[0-9a-f]{64}", found["content"])
    os.utime(path, (0, 0))
    assert describe(path.rename(tmp_path / "other.safetensors")) == found
    other = write(network().state_dict() | {"3.bias": torch.zeros(5)}, ".safetensors")
    assert describe(other)["content"] != found["content"]
    assert describe(write(b"", ".PTH"))["format"] == "torch"


def test_description_of_what_is_no_file(tmp_path):
    (tmp_path / "folder.pt").mkdir()
    assert "missing" in refused(describe, tmp_path / "none.pt")
    assert "not a file" in refused(describe, tmp_path / "folder.pt")
    for name in ("weights.bin", "weights", ".pt", "weights.npz"):
        text = refused(describe, tmp_path / name)
        assert name in text and ".safetensors" in text and ".pth" in text
    with pytest.raises(UserError, match="cannot be read"):
        describe(f"{tmp_path}/{'x' * 300}.pt")
    with pytest.raises(UserError, match="cannot be read"):
        describe("a\0b.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_description_without_permission(write):
    path = write(b"")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        describe(path)


def test_planning_imports_no_torch():
    code = (
        "import sys, blindspots.models.weight_digest; print(*{'torch', 'numpy'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, **CAUGHT)
    assert ran.stdout.split() == []


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_come_as_they_were_saved(write, suffix):
    wanted = network().state_dict()
    assert_same(read_weights(write(wanted, suffix)), wanted)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_checkpoint_around_weights(write, key):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    checkpoint = {"epoch": 3, "optimizer": optimizer.state_dict(), key: model.state_dict()}
    assert_same(read_weights(write(checkpoint)), model.state_dict())


def test_types_and_old_files(write):
    """Parameters, types of two bytes, and the format before zip files."""
    weights = OrderedDict(
        a=nn.Parameter(torch.ones(2)), b=torch.ones(2, dtype=torch.bfloat16), c=torch.tensor(3)
    )
    found = read_weights(write(weights, _use_new_zipfile_serialization=False))
    assert_same(found, {name: tensor.detach() for name, tensor in weights.items()})
    assert not found["a"].requires_grad and type(found["a"]) is torch.Tensor
    floats = {"a": torch.ones(4).to(torch.float8_e4m3fn)}
    assert read_weights(write(floats, ".safetensors"))["a"].dtype == torch.float8_e4m3fn


class Exploit:
    """Runs code where it is unpickled without care."""

    def __reduce__(self):
        return exec, ("import blindspots; blindspots.exploited = True",)


def scripted():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        saved(network()),
        saved(network(), _use_new_zipfile_serialization=False),
        saved({"state_dict": network().state_dict(), "model": network()}),
        saved({"weight": np.zeros(3)}),
        saved({"weight": Exploit()}),
        pickle.dumps(Exploit()),
        pickle.dumps({"weight": [1.0, 2.0]}),
    ],
)
def test_pickled_objects_are_refused_and_run_no_code(write, content):
    text = refused(read_weights, write(content))
    assert "is a pickle of Python objects, which may run code; save its state_dict()" in text
    import blindspots

    assert not hasattr(blindspots, "exploited")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
def test_scripts_are_refused(write):
    assert "may run code; save its state_dict()" in refused(read_weights, write(scripted()))


TENSOR = torch.ones(2)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (TENSOR, "a Tensor"),
        ([TENSOR], "a list"),
        (None, "a NoneType"),
        ({}, "no weights"),
        ({"a": TENSOR, "b": 1.0}, "entries a, b that"),
        ({"a": TENSOR, 3: TENSOR}, "entries a, 3 that"),
        ({"epoch": 1, "net": {"a": TENSOR}}, "entries epoch, net that"),
        ({"epoch": 1, "state_dict": {}}, "entries epoch, state_dict that"),
        ({"state_dict": {"a": TENSOR, "b": [1]}}, "entries state_dict that"),
        (dict.fromkeys("abcdef", 1), "entries a, b, c and 3 more that"),
        (
            {"model": {"a": TENSOR}, "model_ema": {"a": TENSOR}},
            "several state dicts, model, model_",
        ),
        ({"state_dict": {"a": TENSOR}, "model": {"a": TENSOR}}, "several state dicts"),
        ({"a": torch.eye(3).to_sparse()}, "a is sparse"),
        ({"a": torch.ones(3, device="meta")}, "a is sparse, quantized or without values"),
        ({"a": TENSOR, "b": torch.tensor([1.0, torch.nan])}, "b has numbers that are not finite"),
        ({"a": torch.tensor([torch.inf]).half()}, "a has numbers that are not finite"),
    ],
)
def test_what_is_no_weights(write, value, part):
    path = write(value)
    text = refused(read_weights, path)
    assert text.startswith(str(path)) and part in text, text


def test_safetensors_that_are_not_finite_or_empty(write):
    assert "no weights" in refused(read_weights, write({}, ".safetensors"))
    for value in (torch.tensor([torch.nan]), torch.tensor([torch.nan]).to(torch.float8_e4m3fn)):
        assert "not finite" in refused(read_weights, write({"a": value}, ".safetensors"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files(write, suffix):
    """Empty, text, the other format, and truncated at many places."""
    good = write(network().state_dict(), suffix).read_bytes()
    other = ".pt" if suffix == ".safetensors" else ".safetensors"
    contents = [b"", b"weights", write(network().state_dict(), other).read_bytes()]
    contents += [good[:length] for length in range(1, len(good), len(good) // 40)]
    for content in contents:
        assert "damaged or no" in refused(read_weights, write(content, suffix))


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_damage_never_shows_a_traceback(write, suffix):
    """Whichever byte is changed, the file is read or refused; a sample of them."""
    good = write(network().state_dict(), suffix).read_bytes()
    draw = np.random.default_rng(0)
    for place in draw.choice(len(good), 150, replace=False):
        damaged = bytearray(good)
        damaged[place] ^= int(draw.integers(1, 256))
        try:
            read_weights(write(bytes(damaged), suffix))
        except UserError as error:
            assert "\n" not in str(error)


# Loading ------------------------------------------------------------------------------------------


def test_loading_gives_the_network_its_weights():
    model, wanted = network(), {n: v + 1 for n, v in network().state_dict().items()}
    load_strictly(model, wanted, "w.pt")
    assert_same(model.state_dict(), wanted)


def test_missing_and_unexpected_names_are_told_shortly():
    weights = network().state_dict()
    del weights["3.bias"]
    assert refused(load_strictly, network(), weights, "w.pt").startswith("w.pt lacks 3.bias;")
    weights = {f"net.{name}": value for name, value in network().state_dict().items()}
    text = refused(load_strictly, network(), weights, "w.pt")
    assert "lacks 0.weight, 0.bias, 1.weight and " in text
    assert (
        "has net.0.weight, net.0.bias, net.1.weight and 6 more, which the network has not" in text
    )
    weights = {**network().state_dict(), "4.weight": TENSOR}
    assert "w.pt has 4.weight, which the" in refused(load_strictly, network(), weights, "w.pt")


def test_other_shapes():
    """Even those that torch would stretch."""
    weights = network().state_dict() | {"3.weight": torch.zeros(10, 16), "3.bias": torch.zeros(10)}
    text = refused(load_strictly, network(), weights, "w.pt")
    assert "3.weight (10, 16) in place of (5, 16), 3.bias (10,) in place of (5,);" in text
    many = {name: torch.zeros(7, 7, 7) for name in weights if "num" not in name}
    assert " and 5 more;" in refused(load_strictly, network(), many, "w.pt")
    one = network().state_dict() | {"3.bias": torch.zeros(1)}
    assert "3.bias (1,) in place of (5,)" in refused(load_strictly, network(), one, "w.pt")


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        (torch.zeros(5, dtype=torch.int64), "3.bias integer (5,) in place of (5,)"),
        (torch.zeros(5, dtype=torch.complex64), "3.bias complex (5,) in place of (5,)"),
        (torch.full((5,), 1e300, dtype=torch.float64), "3.bias has numbers too large"),
    ],
)
def test_other_numbers(tensor, part):
    weights = network().state_dict() | {"3.bias": tensor}
    assert part in refused(load_strictly, network(), weights, "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_cast_and_told(dtype, caplog):
    weights = {
        n: v.to(dtype) if v.is_floating_point() else v for n, v in network().state_dict().items()
    }
    model = network()
    with caplog.at_level(logging.INFO):
        load_strictly(model, weights, "w.pt")
    said = f"w.pt: weights of type {str(dtype)[6:]} are cast to the network's float32"
    assert caplog.messages == [said]
    assert_same(
        model.state_dict(), {n: v.to(model.state_dict()[n].dtype) for n, v in weights.items()}
    )


def test_prefix_of_data_parallel(caplog):
    """It is taken away if all names have it and the network has not."""
    weights = nn.DataParallel(network()).state_dict()
    assert all(name.startswith("module.") for name in weights)
    model = network()
    nn.init.zeros_(model[3].weight)
    with caplog.at_level(logging.INFO):
        load_strictly(model, weights, "w.pt")
        assert_same(model.state_dict(), network().state_dict())
        assert caplog.messages == ["w.pt: module. is taken away before every name"]
        load_strictly(nn.DataParallel(network()), weights, "w.pt")
    assert len(caplog.messages) == 1
    some = {**weights, "3.bias": weights["module.3.bias"]}
    assert "has module.0.weight" in refused(load_strictly, network(), some, "w.pt")


def test_counters_of_batches_that_old_files_lack():
    weights = {n: v for n, v in network().state_dict().items() if "num_batches" not in n}
    model = network()
    load_strictly(model, weights, "w.safetensors")
    assert_same({n: model.state_dict()[n] for n in weights}, weights)


def test_error_of_a_module_that_loads_itself():
    class Own(nn.Linear):
        def _load_from_state_dict(self, state, prefix, local, strict, missing, unexpected, errors):
            errors.append("version 7\nis not known")

    text = refused(load_strictly, Own(2, 2), Own(2, 2).state_dict(), "w.pt")
    assert text.startswith("w.pt cannot be loaded into the network (")
    assert "version 7 is not known" in text
