"""
Measurements of real clusters, baoha beside OpenBao, and what starts them.

Each command (``failover``, ``throughput``, ``overload``) runs clusters one after the other under
the same load and prints ratios; docs/testing.md says how to read them. Read first:
``testbed/clusters.py`` (how a cluster is started), then ``failover.py``. ``walk`` is of its own
kind: it counts the calls of one write, in one process.
"""
