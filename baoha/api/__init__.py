"""
The HTTP API: ASGI in and out, the endpoints that a node answers itself, the way to the others.

A request is read whole (``asgi.py``), answered from memory (``local.py``) or taken to the active
node (``requests.py``): executed here, forwarded, parked, redirected or refused. Knows the node as a
``NodeView`` only. Read first: ``standby_policy.py`` (the decision, pure), then ``requests.py``.
"""
