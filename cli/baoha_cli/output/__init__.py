"""
What commands print: one document, in the format that was asked for.

Read `documents` first; `gotext` writes tables as `bao` does.
"""
