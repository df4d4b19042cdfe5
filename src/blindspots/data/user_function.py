"""Images and labels that a user's function returns: arrays as `blindspots.data.arrays` wants them.

The function is called ``function(**options)`` and returns a mapping of these arrays, or a tuple of
train_images, train_labels, test_images, test_labels and, if there are any, the names of classes.

Planning calls it in a process of its own, for it may import whatever it likes, and keeps what it
has learnt (`blindspots.data.index`) until code, options or a file that was read by it changes.
Run as a module, this calls a function and writes what planning needs.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from blindspots.artifacts import canonical_json
from blindspots.data import arrays
from blindspots.data.arrays import ARRAYS, CLASSES, channels_first, checked
from blindspots.data.facts import BASES, Dataset, Facts
from blindspots.data.index import FOLDER, Index, stamp
from blindspots.data.names import line
from blindspots.errors import UserError
from blindspots.user_modules import PROJECT, fingerprint_user_module, search_path

READERS = (__file__, arrays.__file__)


def planned(reference, options):
    """Return what is known of the images of a function; call it unless that is known already.

    Parameters
    ----------
    reference : str
        ``module:function``, where steps find it.
    options : dict
        Its keyword arguments.

    Returns
    -------
    Facts
        Its content is the hexadecimal SHA-256 of images, labels and names.

    Raises
    ------
    UserError
        If there is no such function, it fails, or returns something else.
    """
    code = fingerprint_user_module(reference, search_path())
    called = canonical_json([code, options])
    with Index(f"{reference} from {os.getcwd()}", READERS, ["numpy"]) as index:
        found = index.get(called, _stamps(index.get(f"files of {called}", [])))
        if found is None:
            answer = _ask(reference, options)
            found, files = answer["facts"], answer["files"]
            index.keep(f"files of {called}", [], files)
            index.keep(called, _stamps(files), found)
    return Facts(**{**found, "shape": tuple(found["shape"])})


def load(reference, options, content):
    """Return the images of a function that `planned` has seen.

    Parameters
    ----------
    reference, options
        As for `planned`.
    content : str
        As of `planned`.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If it fails, or returns something else than then.
    """
    dataset = call(reference, options)
    if dataset.facts.content != content:
        raise UserError(
            f"{reference} returned other images, labels or names than when snakemake planned this "
            "job; let it return the same each time or, if files that it reads have changed, delete "
            f"{FOLDER} and run again"
        )
    return dataset


def call(reference, options):
    """Call a function, and return what it returns, checked.

    What it draws from global generators is the same each time. It may import torchvision.

    Returns
    -------
    Dataset
        The content of its facts is the hexadecimal SHA-256 of images, labels and names.

    Raises
    ------
    UserError
        If it cannot be found, fails, or returns something else than it should.
    """
    import numpy as np

    from blindspots.randomness import seed_globals
    from blindspots.torchvision_import import import_with_torchvision

    module, _, name = reference.partition(":")
    try:
        seed_globals(0)
        function = getattr(import_with_torchvision(module), name, None)
        if function is None:
            raise UserError(f"{reference}: the module has no {name}; correct the name")
        seed_globals(0)  # torch, too, if the module has imported it
        found = _named(reference, function(**options))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(reference, error) from None

    def header(array, wanted):
        if found[array].dtype.hasobject:
            raise UserError(
                f"{reference}: {array} is no array of {wanted} but of Python objects; return one"
            )
        return found[array].shape, found[array].dtype

    facts = checked(reference, reference, found, header, found.get)
    images = {base: channels_first(found[f"{base}_images"]) for base in BASES}
    labels = {base: found[f"{base}_labels"].astype(np.int64) for base in BASES}
    whole = hashlib.sha256(canonical_json([facts.shape, facts.names, facts.sizes]).encode())
    for base in BASES:
        whole.update(images[base])
        whole.update(np.ascontiguousarray(labels[base], "<i8"))
    return Dataset(images, labels, replace(facts, content=whole.hexdigest()))


def _named(reference, returned):
    """Return what a function has returned as arrays by their names."""
    import numpy as np

    names = (*ARRAYS, CLASSES)
    if isinstance(returned, tuple | list) and len(returned) in (len(ARRAYS), len(names)):
        returned = dict(zip(names, returned, strict=False))
    if not isinstance(returned, dict):
        raise UserError(
            f"{reference} returned {type(returned).__name__}; return a dict with "
            f"{', '.join(ARRAYS)}, or a tuple of these"
        )
    missing = [name for name in ARRAYS if returned.get(name) is None]
    if missing:
        raise UserError(
            f"{reference} returned no {' or '.join(missing)}; return {', '.join(ARRAYS)}"
        )
    found = {}
    for name in names:
        if returned.get(name) is not None:
            try:
                found[name] = np.asarray(returned[name])
            except Exception as error:
                raise UserError(
                    f"{reference}: {name} is no array ({line(str(error))}); return one"
                ) from None
    return found


def _failed(reference, error):
    """Return the error of a function that failed, with the line of the user's at which it did."""
    own = reference.partition(":")[0].replace(".", os.sep)
    ends = (f"{os.sep}{own}.py", f"{os.sep}{own}{os.sep}__init__.py")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename.endswith(ends)]
    where = f" (line {lines[-1]})" if lines else ""
    reason = line(str(error)) or "no message"
    return UserError(
        f"the function {reference} failed: {type(error).__name__}: {reason}{where}; correct it"
    )


# In planning -------------------------------------------------------------------------------------


def _stamps(files):
    """Return the stamps of files; of those that are gone, nothing."""
    found = []
    for file in files or []:
        with suppress(OSError):
            found.append(stamp(file))
    return found


def _ask(reference, options):
    """Call a function in a process of its own, as steps are started; return what `main` writes."""
    path = os.pathsep.join([str(PROJECT / "src"), *search_path()[1:]])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "blindspots.data.user_function"]
        command += [reference, json.dumps(options), str(answer)]
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if not answer.exists():
            last = line((done.stderr.strip().splitlines() or ["no message"])[-1])
            raise UserError(f"the function {reference} ended its process ({last}); correct it")
        found = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise UserError(found["error"])
    return found


def main(reference, options, answer):
    """Call a function; write facts of what it returns, and the files that were read, as JSON."""
    reads = _watch()
    try:
        facts = call(reference, json.loads(options)).facts
        found = {"facts": asdict(facts), "files": _files_of_users(reads)}
    except UserError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def _watch():
    """Have Python tell which files are opened for reading and which folders are listed from now on.

    Returns
    -------
    set of str
        That grows. What libraries open by themselves, without Python, is not in it.
    """
    reads = set()

    def hear(event, arguments):
        opened = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opened or event in ("os.listdir", "os.scandir"):
            reads.add(arguments[0])

    sys.addaudithook(hear)
    return reads


def _files_of_users(reads):
    """Return the files and folders among some that are the user's, modules too, as full paths."""
    modules = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    found = {os.fsdecode(path) for path in {*reads, *modules} if isinstance(path, str | bytes)}
    found = {os.path.abspath(path) for path in found}
    paths = sysconfig.get_paths()
    libraries = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries += [str(PROJECT / "src/blindspots"), "/dev", "/proc", "/sys"]
    # Folders that are listed to find modules in them.
    searched = {os.path.abspath(folder) for folder in sys.path}
    searched |= {os.path.dirname(os.path.abspath(file)) for file in modules if file}
    return sorted(
        path
        for path in found
        if os.path.exists(path)
        and path not in searched
        and not path.endswith(".pyc")
        and not path.startswith(tuple(f"{library}{os.sep}" for library in libraries))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
