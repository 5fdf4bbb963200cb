"""
Barrier, seal, tokens, policies, mounts, engines, dispatch. Knows no HTTP and no role.

A logical request goes through the steps of ``dispatch.py`` to an engine
(``core/engines/kv2/engine.py``, ``core/engines/sys/engine.py``, ``core/engines/token.py``), whose
entries pass the barrier on their way to the store. Read first: ``request.py`` (what a request is),
``dispatch.py``, then ``core/keys/barrier.py``.
"""
