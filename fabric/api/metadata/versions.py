"""
The dated versions of the metadata's tree, and what each brought.

C{https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html}
"""

from __future__ import annotations

LATEST = "latest"

VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-08-24",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
)
"""All that a path may begin with besides L{LATEST}, oldest first."""

SINCE = {
    "local-hostname": "2007-01-19",
    "local-ipv4": "1.0",
    "public-hostname": "2007-01-19",
    "public-ipv4": "2007-01-19",
    "ramdisk-id": "2007-10-10",
    "block-device-mapping": "2007-12-15",
    "kernel-id": "2008-02-01",
    "placement": "2008-02-01",
    "instance-action": "2008-09-01",
    "mac": "2011-01-01",
    "network": "2011-01-01",
    "services": "2014-02-25",
    "instance-life-cycle": "2019-10-01",
    "tags": "2021-03-23",
}
"""The version that brought each category below C{meta-data}; 1.0 for those not named."""

DYNAMIC_SINCE = "2009-04-04"
"""The version that brought C{dynamic}."""


def has(version: str, since: str) -> bool:
    """
    Whether a version has what came with another.
    """
    return version == LATEST or _ORDER[version] >= _ORDER[since]


_ORDER = {version: number for number, version in enumerate(VERSIONS)}
