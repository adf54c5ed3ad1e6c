"""Hooks into frameworks, workers and scripts: one module each, none imported until it is asked for.

Each module is thin: it uses the framework's own public hook to tell an `Observer` what happened.
What becomes of that (names, skipping, sampling, redaction, payloads) is decided once, here:

    observation   what was seen of one request or one piece of work: values
    observer      opens and closes a watch on a request; turns observations into events
    payload       the payload of the audit event, in both dialects, and its clamp ladder
    configuration one dict of a framework's settings, parted

Importing a hook requires its framework; importing `indelible` never does.
"""
