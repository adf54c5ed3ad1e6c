"""Persons: which ids are one, what is known of them, and which entries are theirs."""
