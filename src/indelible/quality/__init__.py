"""Data quality: the schema that traffic has, learned from the log, and the contracts it is held to.

shape      what may be shown of a value, and of a name that looks like a value (pure)
walk       one event as the paths of its properties, with their types and shapes (pure)
contract   what an event should have, and what does not fit (pure)
schema     what is known of an event, a property, a project (pure)
book       the schema of one project while a stretch of its log is learned
schemas    the file that keeps the schemas, derived from the journal
learning   the follower, and the room's own composition
"""
