"""
Calls and casts between services, over AMQP or within one process.
"""
