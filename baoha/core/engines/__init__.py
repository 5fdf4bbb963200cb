"""
What is mounted: key/value stores, `sys/` and the token endpoints.

Read `kv1` first: it is the smallest. An engine knows `framework`, not dispatch.
"""
