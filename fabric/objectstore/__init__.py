"""
The object store's door: image files, by links that are signed.
"""
