"""``heedmap`` and ``python`` in a process of its own, without the seconds that a process takes to import torch and transformers.

:func:`warming` starts ``python warmed.py SOCKET``, which imports them and waits until its standard input ends. The command
``heedmap`` that it writes asks for a fork, and waits while the imports go on: the fork takes over the command's arguments,
folder, environment and standard streams, runs the code of the real ``heedmap``, and ends as any Python process does; the
command ends with the same code. ``python`` beside it does so too, for ``-m MODULE`` and ``-c CODE``.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from runpy import run_module

COMMAND = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
    line.connect({address!r})
    request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)])
    socket.send_fds(line, [request.encode()], [0, 1, 2])
    sys.exit(int(line.recv(8) or 255))
"""


@contextmanager
def warming(folder: Path) -> Iterator[Path]:
    """``folder/heedmap``, an executable that asks a process of its own; that ends with the context; ``python`` is beside it."""
    path, address = folder / "heedmap", folder / "socket"
    for command in (path, folder / "python"):
        command.write_text(COMMAND.format(python=sys.executable, address=str(address)))
        command.chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"listening\n"
        yield path
        server.communicate()


MODULES = (
    "heedmap.cli.main",
    "heedmap.engine.explain",
    "heedmap.methods.registry",
    "heedmap.models.answer",
    "heedmap.models.loader",
    "heedmap.render.matrices",
    "heedmap.render.answer_page",
    "heedmap.render.cautions",
    "heedmap.render.terminal",
    "heedmap.zoo.samples",
    "matplotlib.pyplot",
    "pandas",
    "pyarrow.parquet",
    "pydantic.main",
    "rich.progress",
    "scipy.stats",
    "torch._dynamo",
    "torchvision",
    "transformers.modeling_utils",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bart.modeling_bart",
    "transformers.models.llama.modeling_llama",
    "transformers.models.vit.modeling_vit",
    "transformers.processing_utils",
)
"""What most commands import. Nothing is computed before the forks: threads do not live on in them."""


def _take_over(line: socket.socket) -> None:
    """In a fork: become the command that asks; another fork waits for its end and tells its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(line, 1 << 20, 3)
    if command := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        with suppress(BrokenPipeError):  # whoever asked was stopped meanwhile
            line.send(str(code % 256).encode())
        os._exit(0)
    line.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv[:], folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if backend := os.environ.get("MPLBACKEND"):  # matplotlib reads it when it is imported, and was
        sys.modules["matplotlib"].rcParams["backend"] = backend


def _python(*arguments: str) -> None:
    """As ``python`` does, which is also called for all but a module and a piece of code."""
    match arguments:
        case ("-m", name, *rest) if name != "heedmap.packaged":  # whether it draws bars is for tqdm's import to see
            sys.argv[:] = [name, *rest]
            run_module(name, run_name="__main__", alter_sys=True)
        case ("-c", code, *rest):
            sys.argv[:] = ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case _:
            os.execv(sys.executable, [sys.executable, *arguments])


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
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(sys.argv[1])
        door.listen()
        print("listening", flush=True)
        for name in MODULES:
            import_module(name)
        gc.freeze()  # forks need not look at it for garbage
        _serve(door)

    if Path(sys.argv[0]).name == "python":
        _python(*sys.argv[1:])
    else:
        from heedmap.cli.main import main

        main()
