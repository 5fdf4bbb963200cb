"""
Real clusters: server processes, sockets, TLS and signals, under load.

Every test starts nodes of its own on free ports of the loopback device, breaks something, and looks
for what was acknowledged. The processes are those of tests.support. Read first:
``test_planned_changes.py``, then ``test_crashes.py``.
"""
