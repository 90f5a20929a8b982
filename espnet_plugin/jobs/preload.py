"""Imports ESPnet once for all programs of a recipe: a server that forks instead of starting Python.

Importing ESPnet's ASR task takes 10 to 20 seconds on common machines, and a recipe starts some
thirty programs: on a small corpus that is most of its time. ``preload FOLDER`` makes
``FOLDER/python``, to be given as ``--python`` to whatever starts our programs on this machine. It
passes the request to this server, which forks a child that has everything imported already.

What a program sees is what it would see in a process of its own: its arguments, folder,
environment, standard streams, signals and exit status. It dies with whoever asked for it, and the
server dies with the process that started it. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import runpy
import selectors
import shlex
import signal
import socket
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, NoReturn

from espnet_plugin.corpora.processes import die_with_parent
from espnet_plugin.jobs import preload_client

#: What the programs need in common. No module of theirs: each runs as ``__main__``.
MODULES = ("espnet_plugin.tasks.progressive", "espnet_plugin.search", "espnet_plugin.scoring")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="import ESPnet once for all programs started by FOLDER/python"
    )
    parser.add_argument("folder", type=Path, help="where to make `python` (an existing folder)")
    parser.add_argument(
        "--modules", nargs="*", default=MODULES, help="what to import (%(default)s)"
    )
    return parser


def hide_gpus(environment: MutableMapping[str, str]) -> None:
    """Let no program of the server see a GPU: none was asked for (progressive.sh).

    Imports look at GPUs, and once they have, torch refuses to look again in a forked child, even
    for the version of cuDNN that ESPnet logs.
    """
    environment["CUDA_VISIBLE_DEVICES"] = ""


def main(command_line: list[str] | None = None) -> None:
    arguments = get_parser().parse_args(command_line)
    parent = os.getppid()
    os.setsid()  # signals of the terminal go to the client, which forwards them
    die_with_parent(parent)
    hide_gpus(os.environ)
    listener = listen(arguments.folder)
    for module in arguments.modules:
        __import__(module)
    gc.collect()
    gc.freeze()  # a collection in a child would copy all pages that hold objects
    Server(listener).run()


def listen(folder: Path) -> socket.socket:
    """Makes the socket and ``python``; requests that come while we import have to wait."""
    address = folder.absolute() / "socket"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with preload_client.short_path(str(address)) as path:
        listener.bind(path)
    listener.listen(128)
    client = [sys.executable, "-I", "-S", preload_client.__file__, str(address)]
    script = folder / "python.new"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
    script.chmod(0o755)
    script.replace(folder / "python")
    return listener


class Server:
    """Accepts requests, forks, reports exit statuses, kills what nobody waits for any more."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                key.data()

    def accept(self) -> None:
        connection, _ = self.listener.accept()
        try:
            wanted, streams = receive(connection)
        except (OSError, ValueError):
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self.listener.close()
            self.selector.close()
            connection.close()
            become(wanted, streams)
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(pid)

        def report() -> None:
            _, status = os.waitpid(pid, 0)
            self.selector.unregister(ended)
            if connection in self.selector.get_map():
                self.selector.unregister(connection)
            os.close(ended)
            answer(connection, os.waitstatus_to_exitcode(status))
            connection.close()

        def abandoned() -> None:
            """The client sends nothing more: that its end is readable means that it is gone."""
            if connection.fileno() < 0:
                return  # the program ended at the same moment, and was reported
            os.kill(pid, signal.SIGKILL)
            self.selector.unregister(connection)

        self.selector.register(ended, selectors.EVENT_READ, report)
        self.selector.register(connection, selectors.EVENT_READ, abandoned)
        answer(connection, pid)


def answer(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # a client that is gone wants no answer
        connection.sendall(f"{number}\n".encode())


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and the client's standard streams.

    Raises:
        ValueError: the client went away before the end of its request.
    """
    message, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not message.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more:
            raise ValueError("incomplete request")
        message += more
    return json.loads(message), streams


def become(wanted: dict[str, Any], streams: list[int]) -> NoReturn:
    """In the child: turn into the program that was asked for, and end as an interpreter would."""
    die_with_parent(os.getppid())
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    for number in preload_client.FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.path[0] = wanted["folder"]
    search_also(os.environ.get("PYTHONPATH", ""))
    sys.argv = wanted["arguments"]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if "torch" in sys.modules:
        fresh_state()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    sys.exit()


def search_also(python_path: str) -> None:
    """Find modules where the client's PYTHONPATH says, after its folder, as its own Python would.

    The server's own Python was told of the folders that it was started with.
    """
    given = python_path.split(os.pathsep)
    sys.path[1:1] = [folder for folder in given if folder and folder not in sys.path]


def fresh_state() -> None:
    """What a new process would have drawn, or read from its environment, while it imported."""
    import numpy as np
    import torch

    random.seed()
    np.random.seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(threads) if threads.isdigit() else len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
