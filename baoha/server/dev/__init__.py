"""
`baoha server -dev` and `--dev-ha`: servers that set themselves up and forget it all.

Read `single` first; `bootstrap` initialises and unseals over HTTP as an operator would.
"""
