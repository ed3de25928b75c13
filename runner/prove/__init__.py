"""Proof: content compared with its fingerprint, questions asked of it, places to do so in."""
