"""
C{cloud-manage}: an operator's command, a client of the admin door.
"""
