"""Programs of the tests that begin with torch and Jupyter imported: seconds less for each.

A program `light_python.py MODULE ARGUMENT...` stands for `python -m MODULE ARGUMENT...`. It hands its arguments, its
variables, its folder and its output to a server, which forks: the fork runs the module, in a session of its own. The
two end together, by SIGKILL too, and an interrupt of the one is passed on to the other. Jupyter starts its kernels in
this way where `SPECIFICATION` is the first that it finds.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

VARIABLE = "SETN_LAB_TEST_LIGHT_PYTHON"  # where the server listens
LIGHT_PYTHON = [sys.executable, "-S", "-E", os.path.abspath(__file__)]  # takes the place of `python -m`
SPECIFICATION = {
    "argv": [*LIGHT_PYTHON, "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "metadata": {"debugger": True},
}
# Beside what the server is forked with. Not ipywidgets, which asks for the kernel that imports it.
IMPORTED = [
    *("ipykernel.kernelapp", "ipykernel.ipkernel", "IPython.display", "papermill.cli", "matplotlib.pyplot"),
    *(f"setn_lab.{name}" for name in ("cli", "notebook", "listing", "inspection.questions", "retrain.report")),
    *(f"setn_lab.search.{name}" for name in ("live", "report", "description", "verdict")),
]
ALONE = 1.0  # seconds after which a program whose parent has ended ends too


# In the program


def main() -> int:
    parent, connection = os.getppid(), socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[VARIABLE])
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), os.getpid()]).encode()
    socket.send_fds(connection, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(asked)
    signal.signal(signal.SIGINT, lambda *_: connection.send(b"i"))
    while not select.select([connection], [], [], ALONE)[0]:
        if os.getppid() != parent:
            return 1
    code = connection.recv(1)
    if not code:
        os.kill(os.getpid(), signal.SIGKILL)  # as the other has ended
    return code[0]


# In the server


def serve(address: str, ready: Any) -> None:
    """Fork for each program that connects, until the process that started this one has ended."""
    import importlib

    for name in IMPORTED:
        importlib.import_module(name)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        server.settimeout(ALONE)
        ready.set()
        while os.getppid() == parent:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                    pass
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                run(connection)
            connection.close()


def run(connection: socket.socket) -> None:
    """In the fork: run the module as that program would, and end as it does."""
    import runpy
    import traceback

    import matplotlib
    import psutil

    from setn_lab import notebook

    connection.settimeout(None)
    size, descriptors, *_ = socket.recv_fds(connection, 8, 3)
    (module, *arguments), variables, folder, program = json.loads(
        connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    )
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = [folder, *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = [module, *arguments]  # whose first runpy replaces
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    matplotlib.rcParams["backend"] = variables.get("MPLBACKEND") or (
        "module://matplotlib_inline.backend_inline" if module == "ipykernel_launcher" else "agg"
    )
    notebook.psutil = SimpleNamespace(Process=lambda: psutil.Process(program), Error=psutil.Error)  # who started it
    if module == "ipykernel_launcher":  # as it ends with the program, it says nothing of how to end it
        sys.argv.append(f"--IPKernelApp.parent_handle={os.getppid()}")
    threading.Thread(target=follow, args=(connection,), daemon=True).start()
    code: object = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    number = code if isinstance(code, int) else int(code is not None)
    connection.send(bytes([number & 255]))
    os._exit(number & 255)


def follow(connection: socket.socket) -> None:
    """Interrupt this process whenever the program is interrupted, and kill it when the program has ended."""
    while connection.recv(1):
        os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
