"""
The admin door: what operators ask of the cloud, as signed JSON.
"""
