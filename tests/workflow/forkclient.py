"""``python`` by a fork of a server: the server's address, and then words as Python takes them.

It hands on its streams and the signals that it gets, and ends as the fork does. What the server
refuses it does itself.
"""

import json
import os
import signal
import socket
import sys

STREAMS = 4  # the standard ones, and the one by which a step reaches snakemake's terminal
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ask(connection, words, cwd, env, streams, ignored=(), executable=None):
    """Ask a server to run a module.

    Parameters
    ----------
    connection : socket.socket
    words : list of str
        What would stand behind ``python``.
    cwd : str
    env : dict of str to str
    streams : dict of int to int
        Open streams, by the numbers that they have there.
    ignored : sequence of int
        Signals that it ignores.
    executable : path-like, optional
        What the module is to take for its interpreter.
    """
    request = {
        "words": words,
        "cwd": cwd,
        "env": env,
        "streams": list(streams),
        "ignored": ignored,
        "executable": executable and str(executable),
    }
    socket.send_fds(connection, [b" "], list(streams.values()))
    connection.sendall(f"{json.dumps(request)}\n".encode())


def answer(connection):
    """Return the exit code, minus the number of a signal, or None if the server has refused."""
    told = b""
    while not told.endswith(b"\n"):
        part = connection.recv(64)
        if not part:
            raise EOFError("the server of forks has gone")
        told += part
    return json.loads(told)


def main(address, *words):
    """Do what ``python`` would do with the words."""
    streams = {number: number for number in range(STREAMS) if is_open(number)}
    ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        ask(connection, list(words), os.getcwd(), dict(os.environ), streams, ignored)
        for number in set(SIGNALS) - set(ignored):
            signal.signal(number, lambda number, frame: connection.send(bytes([number])))
        code = answer(connection)
    if code is None:
        os.execv(sys.executable, [sys.executable, *words])
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def is_open(number):
    """Tell whether a stream is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
