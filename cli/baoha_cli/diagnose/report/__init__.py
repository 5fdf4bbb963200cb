"""
What `baoha diagnose` says: text, and the formats of other tools.

Read `text` first; `formats` has one function for each format.
"""
