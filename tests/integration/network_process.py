"""
A process that is the network service of a host in a namespace, for tests that kill it.

C{python -m tests.integration.network_process DIRECTORY NAMESPACE} expresses and
plugs what tests use, says so, and stays.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

from fabric.network.linux.assembly import linux_network
from fabric.network.linux.plan import Uplinks
from tests.integration.linux_networks import DHCP, dhcp_plug


@inlineCallbacks
def serve(directory, namespace):
    """Do what a launch asks for."""
    driver = linux_network(directory, reactor, Uplinks(), namespace=namespace)
    yield driver.start()
    yield driver.express(DHCP)
    yield driver.plug([dhcp_plug(1), dhcp_plug(2)])
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    reactor.callWhenRunning(serve, *sys.argv[1:])
    reactor.run()
