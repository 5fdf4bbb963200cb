"""Barrier, seal, tokens, policies, mounts, engines, dispatch. Knows no HTTP and no role."""
