"""
Ciphers and keys: entries of the barrier, the keyring, what the seal stores, shares.

Read `barrier_codec` first; `keyring` holds several of its ciphers, `seal_format` protects them.
"""
