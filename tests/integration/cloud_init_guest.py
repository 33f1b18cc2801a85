"""
What a guest's C{cloud-init} reads, as one line of JSON.

Run by the system's Python, which has C{cloud-init}'s own modules::

    python3 cloud_init_guest.py DIRECTORY v1|v2 [URL]
"""

import base64
import json
import logging
import sys

from cloudinit import helpers, util
from cloudinit.sources.DataSourceEc2 import CloudNames, DataSourceEc2


def source(directory, version, urls):
    """The data source as a boot makes it; it speaks the second version only on what it takes for Amazon's."""
    paths = helpers.Paths({"cloud_dir": directory, "run_dir": directory + "/run"})
    options = {"strict_id": False, "max_wait": 10, "timeout": 9}
    if urls:
        options["metadata_urls"] = urls
    made = DataSourceEc2({"datasource": {"Ec2": options}}, None, paths)
    made._cloud_name = CloudNames.AWS if version == "v2" else CloudNames.UNKNOWN
    return made


def main(directory, version, *urls):
    """Crawl as at boot, and tell what came of it; nobody resolves names here, and asking would take long."""
    util._DNS_REDIRECT_IP = set()
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    made = source(directory, version, list(urls))
    found = made._get_data()
    told = {"found": found, "url": made.metadata_address}
    if found:
        told |= {
            "version": made._crawled_metadata["_metadata_api_version"],
            "metadata": made.metadata,
            "user_data": base64.b64encode(made.userdata_raw or b"").decode(),
            "identity": made.identity,
            "instance_id": made.get_instance_id(),
            "zone": made.availability_zone,
            "region": made.region,
            "keys": made.get_public_ssh_keys(),
            "hostname": str(made.get_hostname()),
            "network": made.network_config,
            "token": bool(made._api_token),
        }
    sys.stdout.write(json.dumps(told) + "\n")


main(*sys.argv[1:])
