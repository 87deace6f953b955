"""What a program prints of an error is one line, on which no terminal acts."""

from __future__ import annotations

from beam_pipeline.usage import one_line


def test_a_message_is_one_line() -> None:
    assert one_line(ValueError("two\n  lines\tand \r\n more")) == "two lines and more"


def test_what_a_terminal_acts_on_is_escaped() -> None:
    assert one_line("image a\x1b[31m\x07b\u202ec\udc80, käse 😀") == r"image a\x1b[31m\x07b\u202ec\udc80, käse 😀"
