"""Accounting: what every sending process captured, and what of it the log has.

account     one process in one lane, as a value: accounts are merged, in any order (pure)
facts       a stretch of the log as accounts (pure)
accounts    the file that keeps them, derived from the journal
accounting  the follower, and the room's own composition
"""
