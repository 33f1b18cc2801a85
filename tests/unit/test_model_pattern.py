"""
EC2's wildcards.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.model.pattern import matches


class PatternTests(SynchronousTestCase):
    """
    L{matches}.
    """

    def test_star_is_any_text(self) -> None:
        """A star stands for any text, the empty one too."""
        self.assertTrue(matches("a*", "a"))
        self.assertTrue(matches("a*c", "abbc"))
        self.assertFalse(matches("a*c", "abcd"))

    def test_question_mark_is_one_character(self) -> None:
        """A question mark stands for exactly one character."""
        self.assertTrue(matches("a?", "ab"))
        self.assertFalse(matches("a?", "a"))

    def test_backslash_takes_literally(self) -> None:
        """After a backslash a wildcard means itself."""
        self.assertTrue(matches("a\\*", "a*"))
        self.assertFalse(matches("a\\*", "ab"))

    @given(st.text())
    def test_escaped_text_matches_itself_only(self, text: str) -> None:
        """Any text with each character escaped is a pattern for that text."""
        pattern = "".join("\\" + character for character in text)
        self.assertTrue(matches(pattern, text))
        self.assertFalse(matches(pattern, text + "x"))

    @given(st.text())
    def test_no_pattern_is_an_error(self, pattern: str) -> None:
        """Whatever a user sends as a pattern can be asked."""
        self.assertIn(matches(pattern, "text"), (True, False))
