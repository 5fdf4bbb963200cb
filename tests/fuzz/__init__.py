"""
The parsers as targets for a fuzzer, which is no part of any other test.

docs/testing.md has the commands. A target takes bytes and accepts the parser's own error only; what
is found goes into the table of the test beside the parser, so it is tried ever after.
Read first: ``run.py``.
"""
