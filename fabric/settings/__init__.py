"""
What an operator may set: one frozen value, made once at start and passed down.

A setting stands in C{fabric.toml} as C{key} in C{[section]}, in the environment
as C{FABRIC_SECTION_KEY}, and on a command line as C{--set section.key=value};
each of them overrides the ones before.  What is unknown, or not of the
setting's type, is an error at start, never a surprise at night.
"""

from fabric.settings.catalogue import example, known
from fabric.settings.loading import FILE_VARIABLE, BadSettings, load
from fabric.settings.values import Fake, Libvirt, Settings

__all__ = ["FILE_VARIABLE", "BadSettings", "Fake", "Libvirt", "Settings", "example", "known", "load"]
