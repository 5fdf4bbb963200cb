"""Stores: the contract (``base``), the adapters, fault-injecting wrappers and conformance suites."""
