"""
Tests that take many minutes, for C{scripts/test --slow} only.
"""
