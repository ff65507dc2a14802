"""``heedmap`` in a process of its own, without the seconds that a process takes to import torch and transformers.

``python warmed.py SOCKET`` imports them and waits until its standard input ends. The command ``heedmap`` that
:func:`write_command` writes asks it for a fork: that takes over the command's arguments, folder, environment and standard
streams, runs the code of the real ``heedmap``, and ends as any Python process does; the command ends with the same code.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

COMMAND = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
    line.connect({address!r})
    request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)])
    socket.send_fds(line, [request.encode()], [0, 1, 2])
    sys.exit(int(line.recv(8) or 255))
"""


def write_command(folder: Path, address: Path) -> Path:
    """Write ``folder/heedmap``, an executable that asks the process at the socket ``address``."""
    path = folder / "heedmap"
    path.write_text(COMMAND.format(python=sys.executable, address=str(address)))
    path.chmod(0o755)
    return path


MODULES = (
    "heedmap.cli.main",
    "heedmap.methods.registry",
    "heedmap.models.loader",
    "matplotlib.pyplot",
    "torch._dynamo",
    "torchvision",
    "transformers.modeling_utils",
    "transformers.processing_utils",
)
"""What most commands import. Nothing is computed before the forks: threads do not live on in them."""


def _take_over(line: socket.socket) -> None:
    """In a fork: become the command that asks; another fork waits for its end and tells its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(line, 1 << 20, 3)
    if command := os.fork():
        line.send(str(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]) % 256).encode())
        os._exit(0)
    line.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv[:], folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


def _serve(door: socket.socket) -> None:
    """Fork for each that asks; ends in the forks, which go on as the commands, and where standard input has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while door in select.select([door, sys.stdin], [], [])[0]:
        line, _ = door.accept()
        if os.fork() == 0:
            return _take_over(line)
        line.close()
    os._exit(0)


if __name__ == "__main__":
    for name in MODULES:
        import_module(name)
    gc.freeze()  # forks need not look at it for garbage
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(sys.argv[1])
        door.listen()
        print("ready", flush=True)
        _serve(door)

    from heedmap.cli.main import main

    main()
