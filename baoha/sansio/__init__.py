"""
Pure code: no trio, no sockets, no clocks, no randomness. Time and random bytes are arguments.

Formats (barrier entries, keyring, shares, JSON, HCL, frames) and rules (roles, policies, routing,
admission). A test refuses imports that would bring the world in. Read first: ``ha_state.py`` (a
table of roles), then ``sansio/wire/frames.py`` and ``policy.py``.
"""
