"""
The cloud's logic, one module a noun: what every door and worker calls.
"""
