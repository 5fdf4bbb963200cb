"""
From a listening socket to an ASGI call: connections, TLS, turns, limits, refusals.

Read `listener`, then `connection`. hypercorn is here and nowhere else.
"""
