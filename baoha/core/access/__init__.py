"""
Who may do what: tokens, policies, logins and how long they last.

Read `tokens` and `policies` first; the pure half of policies is `baoha.sansio.policy`.
"""
