"""Diagnostic codes: the rows, and what finds them."""
