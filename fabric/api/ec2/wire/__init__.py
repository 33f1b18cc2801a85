"""
EC2's query protocol: requests and answers, compiled from its service model.
"""
