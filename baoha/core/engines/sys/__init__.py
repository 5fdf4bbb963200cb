"""
The endpoints below `sys/` that need a token.

Read `engine` first; `mounts` and `policies` have the paths of their name.
"""
