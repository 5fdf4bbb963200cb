"""Whole clusters on a virtual clock."""
