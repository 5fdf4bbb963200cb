"""
What can be wrong with a cluster: codes, their severity, and the words for them.

Read `code` first; `catalogue` has all codes, and is loaded only where they are explained.
"""
