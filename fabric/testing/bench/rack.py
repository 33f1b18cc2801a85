"""
Cells that need every service in a process of its own.
"""

from __future__ import annotations

from fabric.testing.bench import cells
from fabric.testing.bench.cells import Effort
from fabric.testing.bench.report import Results
from fabric.testing.bench.stage import Stage


def broker_port(servers: Stage) -> int:
    """
    The port of a RabbitMQ that runs until the end of the run.
    """
    raise NotImplementedError


def measure(results: Results, effort: Effort, servers: Stage) -> None:
    """
    Answering RunInstances, and two doors beside one.
    """
    raise NotImplementedError(cells)
