"""
EC2's actions, a module a noun.  Each class takes what it needs of the cloud,
has a method an action, and registers each with what of its input it honours.
"""
