"""
The files of images: kept and served for hosts, and fetched by them.
"""
