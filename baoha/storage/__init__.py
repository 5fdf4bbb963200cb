"""Stores: the contract (``base``), adapters, fault-injecting wrappers, conformance suites."""
