"""
The versioned key/value store, and the way from the plain one to it.

Read `records` (what is stored, pure), then `engine`; `metadata` has the other half of the paths.
"""
