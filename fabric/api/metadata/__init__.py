"""
The metadata door: what a machine asks at 169.254.169.254.
"""
