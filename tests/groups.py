"""Processes that train together as those of `torchrun` do, but forked from a server: seconds less for each."""

import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

PATIENCE = 60  # seconds for the others to end by themselves where one has failed


def _member(rank: int, processes: int, port: int, log: Path, work: Callable[..., Any], arguments: tuple) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    sys.exit(work(*arguments))


def run_group(fork_server, log: Path, work: Callable[..., Any], *arguments: Any, processes: int = 2) -> tuple[str, int]:
    """Have each process do work(*arguments); what they printed, and the first exit code that is not 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    members = [
        fork_server.Process(target=_member, args=(rank, processes, port, log, work, arguments))
        for rank in range(processes)
    ]
    for one in members:
        one.start()
    while running := [one for one in members if one.exitcode is None]:
        failed = any(one.exitcode for one in members)
        if not connection.wait([one.sentinel for one in running], PATIENCE if failed else None):
            for one in running:
                one.kill()
    for one in members:
        one.join()
    return log.read_text(encoding="utf-8"), next((one.exitcode for one in members if one.exitcode), 0)
