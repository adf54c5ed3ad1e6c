"""Indelible: product events and audit events in one append-only log.

Importing this package costs nothing and needs only the standard library; the server lives in the
rooms below it and is installed with ``pip install "indelible[server]"``.
"""

__version__ = "0.1.0"
