"""
The cluster channel: one mutually authenticated connection from each standby to the active node.

The standby's end is ``standby_link.py`` and ``standby_calls.py``, the active node's
``active_listener.py`` and ``active_session.py``; between them stand ``transport.py`` and
``tls.py``, and the frames, which are pure (``baoha.sansio``). Knows nothing of why a node is
active. Read first: ``standby_link.py``.
"""
