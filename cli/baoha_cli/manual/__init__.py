"""
Help, manual pages, completion and reference: all derived from the commands themselves.

Read `tree` first: everything else here is written from it.
"""
