"""Modules run by fork: most of the time of a step or of a plan goes into its imports.

A server has imported the libraries, and nothing of the package, of which every test has a copy of
its own. For each request it forks, and the child becomes what ``python -m module`` would have been,
with its arguments, working directory, environment, streams, signals and exit. What a fork would do
otherwise than an interpreter of its own is refused, and the client starts one. One seed of hashes
is all that the children of a server share beside the libraries.

The server is a process of its own, since pytest's workers have threads. Tests ask it by
`ForkServer.run`, steps by `ForkServer.python`, which stands for the ``python`` of their command
and runs ``forkclient.py``. Where snakemake is started by a command, as a user does, its steps are
processes of their own.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import re
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.machinery import all_suffixes
from pathlib import Path

from forkclient import SIGNALS, STREAMS, answer, ask

CLIENT = Path(__file__).with_name("forkclient.py")
ABOVE = 10  # from here the server's own streams are numbered, so that the client's keep theirs
# Variables that no library reads while it is loaded, and those that scikit-learn and torch's
# compiler set where they are imported, in a test as in a server.
HARMLESS = re.compile(
    r"_|(OLD)?PWD|SHLVL|PATH|PYTHONPATH|TE?MP(DIR)?|(BLINDSPOTS|PYTEST|SABOTAGE|SNAKEMAKE)\w*"
    r"|KMP_DUPLICATE_LIB_OK|KMP_INIT_AT_FORK|TORCHINDUCTOR_CACHE_DIR"
)


class ForkServer:
    """A server that has imported some libraries and forks for each run of a module.

    Parameters
    ----------
    libraries : sequence of str
        Modules that it imports, in this order.
    **environment : str
        What its environment has besides.

    Attributes
    ----------
    python : pathlib.Path
        Program that takes the place of ``python`` for modules.
    """

    def __init__(self, *libraries, **environment):
        self.folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.address = f"{self.folder.name}/socket"
        self.python = Path(self.folder.name, "bin/python")
        self.python.parent.mkdir()
        command = shlex.join([sys.executable, "-I", "-S", str(CLIENT), self.address])
        self.python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self.python.chmod(0o700)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), *libraries],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,  # it ends when we do
                stdout=subprocess.DEVNULL,
                cwd=self.folder.name,  # where no library finds settings
                env={**os.environ, **environment, "PYTHONPATH": ""},
            )

    def run(self, module, arguments, cwd, env, output, errors, executable=None):
        """Run a module, with open files for its output and errors, and return its exit code.

        Parameters
        ----------
        module : str
        arguments : list of str
        cwd : path-like
        env : dict of str to str
        output, errors : file
        executable : path-like, optional
            What the module is to take for its interpreter.
        """
        words = ["-m", module, *arguments]
        with open(os.devnull) as nothing, socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.address)
            streams = {0: nothing.fileno(), 1: output.fileno(), 2: errors.fileno()}
            ask(connection, words, str(cwd), env, streams, executable=executable)
            code = answer(connection)
        if code is not None:
            return code
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        ).returncode

    def close(self):
        """End the server."""
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


class Server:
    """The server's end: its children, and for each the connection to its client.

    Parameters
    ----------
    listener : socket.socket
    environment : dict of str to str
        That in which the libraries were loaded.
    """

    def __init__(self, listener, environment):
        self.listener, self.environment = listener, environment
        self.loaded = {name.partition(".")[0] for name in sys.modules}
        self.connections = {}
        self.woken, self.wakes = socket.socketpair()
        self.wakes.setblocking(False)
        self.selector = selectors.DefaultSelector()
        for source in (sys.stdin, listener, self.woken):
            self.selector.register(source, selectors.EVENT_READ)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the children
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.wakes.fileno())

    def fork(self):
        """Serve until the client of all ends; return in each child, with its request."""
        while True:
            ready = [key for key, _ in self.selector.select()]
            # Children are reaped last, for that closes connections.
            for key in sorted(ready, key=lambda key: key.fileobj is self.woken):
                if key.fileobj is sys.stdin:
                    for pid in self.connections:
                        os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                elif key.fileobj is self.listener:
                    connection, _ = self.listener.accept()
                    if request := self.take(connection):
                        return request
                elif key.fileobj is self.woken:
                    self.woken.recv(4096)
                    self.reap()
                else:
                    self.pass_on(key.fileobj, key.data)

    def take(self, connection):
        """Fork for a request, which the child gets; None in the server."""
        request, streams, early = receive(connection)
        if request is None or not self.does_the_same(request, streams):
            tell(connection, None)
        elif pid := os.fork():
            self.connections[pid] = connection
            self.selector.register(connection, selectors.EVENT_READ, pid)
            for number in early:
                os.kill(pid, number)
        else:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for mine in (*self.connections.values(), connection, self.woken, self.wakes):
                mine.close()
            self.selector.close()
            self.listener.close()
            place(streams)
            return request
        for stream in streams.values():
            os.close(stream)
        return None

    def does_the_same(self, request, streams):
        """Tell whether a fork would do what an interpreter of its own does."""
        env, mine = request["env"], self.environment
        differ = {name for name in {*env, *mine} if env.get(name) != mine.get(name)}
        return (
            request["words"][:1] == ["-m"]
            and all(map(HARMLESS.fullmatch, differ))
            and not any(map(os.isatty, streams.values()))
            and all(self.loaded.isdisjoint(modules_in(folder)) for folder in search_path(request))
        )

    def pass_on(self, connection, pid):
        """Send a child the signals that its client got; without a client it ends."""
        try:
            numbers = connection.recv(64)
        except ConnectionResetError:
            numbers = b""
        if not numbers:
            self.selector.unregister(connection)
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)

    def reap(self):
        """Tell clients how their children have ended."""
        while self.connections:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            connection = self.connections.pop(pid)
            if connection in self.selector.get_map():
                self.selector.unregister(connection)
            tell(connection, os.waitstatus_to_exitcode(status))


def receive(connection):
    """Return a request, the client's streams by their numbers there, and signals behind it."""
    data, streams, _, _ = socket.recv_fds(connection, 65536, STREAMS)
    while b"\n" not in data:
        part = connection.recv(65536)
        if not part:  # the client has gone
            return None, dict(enumerate(streams)), b""
        data += part
    text, _, early = data.partition(b"\n")
    request = json.loads(text)
    return request, dict(zip(request["streams"], streams, strict=True)), early


def tell(connection, code):
    """Tell a client, if it is still there, an exit code, or None: it has to run the module."""
    with connection, contextlib.suppress(OSError):
        connection.sendall(f"{json.dumps(code)}\n".encode())


def search_path(request):
    """Return the folders that ``python -m`` searches before those of the interpreter."""
    given = request["env"].get("PYTHONPATH")
    folders = [request["cwd"], *(given.split(os.pathsep) if given else ())]
    return list(dict.fromkeys(os.path.join(request["cwd"], folder) for folder in folders))


def modules_in(folder):
    """Return the names of the modules in a folder, but for the one that `become` loads anew."""
    names = set()
    if os.path.isdir(folder):
        for entry in os.scandir(folder):
            if suffix := next(filter(entry.name.endswith, all_suffixes()), None):
                names.add(entry.name.removesuffix(suffix).partition(".")[0])
            elif os.path.exists(f"{entry.path}/__init__.py"):
                names.add(entry.name)
    return names - {"sitecustomize"}


def place(streams):
    """Give streams the numbers that they have in the client."""
    moved = {n: fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, ABOVE) for n, stream in streams.items()}
    for stream in streams.values():
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr", None)):
        if number in moved:
            os.dup2(moved[number], number)
            os.close(moved[number])
        else:
            os.close(number)
            if name:
                setattr(sys, name, None)


def become(request):
    """Be what ``python -m module`` is when the module begins, and return the module's name."""
    for number in SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    tempfile.tempdir = None
    sys.executable = request["executable"] or sys.executable
    sys.orig_argv = ["python", *request["words"]]
    _, module, *arguments = request["words"]
    sys.argv = ["-m", *arguments]
    sys.dont_write_bytecode = False  # copies of a project go on with what it has compiled
    current, *given = search_path(request)
    sys.path[:0] = given
    importlib.invalidate_caches()
    if any(os.path.exists(f"{folder}/sitecustomize.py") for folder in given):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    sys.path.insert(0, current)
    return module


def run(module):
    """Run a module as the main one."""
    global exit_code
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        exit_code = 0
    except SystemExit as error:
        exit_code = error.code or 0
        if not isinstance(exit_code, int):
            exit_code = 1
            raise  # the interpreter prints it
    except Exception:
        exit_code = 1
        raise


def leave():
    """End a child without taking apart the libraries, for which they would have to be copied."""
    if exit_code is None:
        return
    code = exit_code
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except OSError:
                code = 120  # as the interpreter has it
    os._exit(code)


exit_code = None  # of a child; None where the interpreter must end by itself

if __name__ == "__main__":
    atexit.register(leave)  # before the libraries, so that it comes after all of theirs
    _inherited, *_libraries = sys.argv[1:]
    _listener = socket.socket(fileno=fcntl.fcntl(int(_inherited), fcntl.F_DUPFD_CLOEXEC, ABOVE))
    os.close(int(_inherited))
    _nothing = os.open(os.devnull, os.O_RDWR)
    if _nothing != STREAMS - 1:  # lest a library gets the number of a client's stream
        os.dup2(_nothing, STREAMS - 1)
        os.close(_nothing)
    _environment = dict(os.environ)
    del sys.path[0]  # the folder of this file
    for _library in _libraries:
        importlib.import_module(_library)
    gc.collect()
    gc.freeze()  # so that children share it all
    run(become(Server(_listener, _environment).fork()))
