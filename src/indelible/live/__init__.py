"""What happens now: each event and each refusal as it comes, and figures of the last half hour.

Nothing here is in a file. All of it follows the journal and the notices of the edge in memory, and
a process that starts again fills it from the journal.

    journal ──rows──▶ live, on the follower's thread
                       ├──▶ windows, a project each ──▶ /api/analytics/realtime
                       └──▶ rings, a project each ──▶ streams ──▶ /api/debug/stream
    edge ──notices──▶ live, on the event loop
                       └──▶ rings
"""
