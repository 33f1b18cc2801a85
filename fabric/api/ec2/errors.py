"""
What a client of EC2 is told when a request is refused.
"""

from __future__ import annotations


class EC2Error(Exception):
    """
    A refusal in EC2's own terms, raised where only EC2's door has the rule.

    @ivar code: as C{InvalidParameterValue}.
    @ivar status: of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status
