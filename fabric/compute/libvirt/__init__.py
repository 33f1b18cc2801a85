"""
Guests by libvirt.
"""
