"""
Cells that need every service in a process of its own, and the servers they use.
"""

from __future__ import annotations

from fabric.testing.bench import cells
from fabric.testing.bench.cells import Effort
from fabric.testing.bench.report import Results
from fabric.testing.bench.sigv4 import Endpoint
from fabric.testing.bench.stage import ROOMY, Stage
from fabric.testing.bench.targets import Target
from fabric.testing.deployment import SINGLE, Deployment

COUNTS = SINGLE | {"cloud-api": 2}
SMALL = 10
"""Instances in the account that is described."""


def measure(results: Results, effort: Effort, servers: Stage) -> None:
    """
    Two doors beside one, then what answering RunInstances costs.
    """
    deployment = Deployment(servers.reactor, servers.directory("rack"), ROOMY | {"log.level": "info"}, COUNTS)
    deployment.redis.settings = ["--appendfsync", "everysec"]
    servers.later(deployment.stop)
    deployment.start()
    doors = [_door(deployment, port) for port in deployment.ports]
    account, _ = cells.fill(doors[0], SMALL)
    cells.doors(results, effort, doors, account)
    for service in (*deployment.of("cloud-scheduler"), *deployment.of("cloud-controller")):
        service.kill()
    cells.accepted(results, effort, doors[0], account)
    results.notes.append("doors and front cells count the doors' processes and Redis, not the broker")


def _door(deployment: Deployment, port: int) -> Target:
    there = Endpoint("127.0.0.1", port, "/services/Cloud", deployment.access_key, deployment.secret_key)
    counted = [process.pid for process in deployment.of("cloud-api")]
    return Target("fabric", there, [*counted, deployment.redis.pid])
