"""
The barrier and its keys: seal, unseal, rotate, initialise, and writes that are certain.

Read `barrier` first: everything above stores through it. `seal` opens and closes it.
"""
