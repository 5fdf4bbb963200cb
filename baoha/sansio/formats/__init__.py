"""
JSON and HCL, read and written without a surprise: bounded, linear, in pieces.

Read `json_decoder` for what a client sends, `hcl` for what an operator writes.
"""
