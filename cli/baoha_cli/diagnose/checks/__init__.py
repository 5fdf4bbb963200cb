"""
The checks: evidence in, faults out, a file for each hundred of codes.

Every check is a pure function over a record of evidence, so that a table can try it.
"""
