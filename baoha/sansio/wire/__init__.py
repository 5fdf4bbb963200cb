"""
The cluster channel as bytes: messages, their frames, and who is sent first.

Read `messages` and `frames` first; `outbox` sends, `assembly` receives, both in `lanes`.
"""
