"""Runs of snakemake by fork: its imports take half of a dry run, and tests plan hundreds of times.

A server of its own, since pytest's workers have threads. It is asked over a socket, by one client
at a time; what it forks has the client's files in place of standard output and error.
"""

import json
import os
import socket
import subprocess
import sys
from multiprocessing.reduction import recv_handle, send_handle

LENGTH = 8


class ForkServer:
    """A server that has imported snakemake and forks for each run."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def run(self, arguments, cwd, env, output):
        """Run snakemake, with its output and errors in an open file; return its exit code."""
        _send(self.socket, {"arguments": list(arguments), "cwd": str(cwd), "env": env})
        send_handle(self.socket, output.fileno(), self.process.pid)
        return _receive(self.socket)

    def close(self):
        """End the server."""
        self.socket.close()
        self.process.wait()


def _send(connection, message):
    data = json.dumps(message).encode()
    connection.sendall(len(data).to_bytes(LENGTH, "big") + data)


def _receive(connection):
    size = int.from_bytes(_exactly(connection, LENGTH), "big")
    return json.loads(_exactly(connection, size))


def _exactly(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def serve(connection):
    """Fork for each message, until the client has gone."""
    import snakemake.cli

    while True:
        try:
            message = _receive(connection)
        except EOFError:
            return
        output = recv_handle(connection)
        child = os.fork()
        if not child:
            connection.close()
            _become(snakemake.cli.main, message, output)
        os.close(output)
        _, status = os.waitpid(child, 0)
        _send(connection, os.waitstatus_to_exitcode(status))


def _become(main, message, output):
    """Do in this process what ``python -m snakemake`` would have done, and end it."""
    os.chdir(message["cwd"])
    os.environ.clear()
    os.environ.update(message["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["snakemake", *message["arguments"]]
    sys.path[0] = message["cwd"]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
