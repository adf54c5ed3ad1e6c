"""Proofs that kill real server processes."""
