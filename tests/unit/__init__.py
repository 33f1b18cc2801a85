"""
Tests without servers.  An example that hypothesis makes may take its time: how long one
takes says how busy the machine is.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("unhurried")
