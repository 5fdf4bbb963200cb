"""
High availability: tenure, duty, standby, hand-over, request gate, the loop. Knows no HTTP.

A node's ``loop.py`` goes from ``standby.py`` (following a leader, contending for the lock) to
``duty.py`` (active, until the deadline of its ``tenure.py`` or a hand-over) and back. ``gate.py``
lets requests in. Read first: ``tenure.py``, ``gate.py``, then ``loop.py``.
"""
