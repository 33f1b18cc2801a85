"""
A private cloud with Amazon's EC2 interface, built of Twisted services.
"""

__version__ = "0.1.0"
