"""The cluster channel: certificates, TLS, frames, the listener and the standby's client."""
