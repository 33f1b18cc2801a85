"""
A shell in a guest, kept open: one ssh session for many commands.

Everything here blocks.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Sequence

SECONDS = 120.0
"""How long a command, or a guest that is being moved, may take to answer."""


class GuestShell:
    """
    What is asked is written to one C{sh}, and what that writes is read line by line.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """
        @param command: runs C{sh} in the guest.
        """
        self._process = subprocess.Popen(
            [*command, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._asked = 0
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, command: str, seconds: float = SECONDS) -> str:
        """
        @return: what a command wrote.
        @raise AssertionError: the session ended, or there was no answer in time.
        """
        self._asked += 1
        end = f"ANSWERED {self._asked}"
        self.tell(f"{command}\necho; echo {end}")
        lines = []
        while (line := self.hear(seconds)) != end:
            lines.append(line)
        return "\n".join(lines).strip()

    def tell(self, command: str) -> None:
        """Have a command run."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def hear(self, seconds: float = SECONDS) -> str:
        """
        @return: the next line.
        @raise AssertionError: as of L{ask}.
        """
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"the guest said nothing in {seconds:g} s") from None
        assert line is not None, "the session ended"
        return line

    def drain(self) -> list[str]:
        """@return: the lines that are here already."""
        return [self.hear() for _ in range(self._lines.qsize())]

    def close(self) -> None:
        """End the session."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
