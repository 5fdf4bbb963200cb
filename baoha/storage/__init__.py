"""
Stores: the contract (``base.py``), adapters, fault-injecting wrappers, conformance suites.

One way to write, ``apply(batch)`` with a fence; the HA lock is a handle without a task of its own.
What a store can do stands in its row (``store_type.py``) and is asked there, never by its name.
``storage/exercise/suites.py`` runs the contract against any store, third-party ones included. Read
first: ``base.py``, ``lock_rules.py``, then ``inmem.py`` (a whole store in one file).
"""
