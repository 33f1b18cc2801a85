"""
The network of a host by Linux itself: bridges, dnsmasq and nftables.
"""
