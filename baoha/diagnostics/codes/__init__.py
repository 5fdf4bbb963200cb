"""
The words of the diagnostic codes, by subject.

Words only: what finds a code stands elsewhere. A number is never used again.
"""
