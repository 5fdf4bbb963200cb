"""
High availability: tenure, duty, standby, hand-over, request gate, the loop. Knows no HTTP.

A node's ``loop.py`` goes from ``standby.py`` (following a leader and contending for the lock, as
the pure ``leader_picture.py`` says) to ``duty.py`` (active, until the deadline of its ``tenure.py``
or a hand-over) and back. ``gate.py`` lets requests in. Read first: ``tenure.py``, ``gate.py``,
``leader_picture.py``, then ``loop.py``.
"""
