"""Stands for ``python`` where a preload server runs: SOCKET, then Python's own arguments.

``-m espnet_plugin NAME ...`` and ``-m espnet_plugin.ROOM.NAME ...`` are run by the server;
everything else, and everything when the server does not answer, by a new interpreter. Standard
library only: that is what makes it quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator

PACKAGE = "espnet_plugin"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(arguments: list[str]) -> int:
    """Runs the program; returns its exit status, or dies of the signal that it died of."""
    address, *arguments = arguments
    if len(arguments) < 2 or arguments[0] != "-m" or arguments[1].split(".")[0] != PACKAGE:
        return plain_python(arguments)
    try:
        connection = request(address, arguments[1:])
    except OSError:
        return plain_python(arguments)
    with connection, connection.makefile("rb") as answers:
        first = answers.readline()
        if not first:  # the server ended before it started anything
            return plain_python(arguments)
        pid = int(first)
        for number in FORWARDED:
            signal.signal(number, lambda received, frame: forward(pid, received))
        last = answers.readline()
    if not last:
        print("the preload server died, and the program with it", file=sys.stderr)
        return 1
    status = int(last)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def plain_python(arguments: list[str]) -> int:
    os.execv(sys.executable, [sys.executable, *arguments])
    return 1


def forward(pid: int, number: int) -> None:
    """A signal for the program; it may have ended in this moment."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def request(address: str, arguments: list[str]) -> socket.socket:
    """Asks for a program with our arguments, folder, environment, and standard streams."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(address) as path:
        connection.connect(path)
    wanted = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    message = json.dumps(wanted).encode() + b"\n"
    sent = socket.send_fds(connection, [message], [0, 1, 2])
    connection.sendall(message[sent:])
    return connection


@contextlib.contextmanager
def short_path(address: str) -> Iterator[str]:
    """The same socket under a path that the kernel takes, which ends at 107 bytes."""
    if len(os.fsencode(address)) <= 107:
        yield address
        return
    folder, name = os.path.split(address)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
