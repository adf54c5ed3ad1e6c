"""The processes of one server: how they are made, what they say to each other, who ends whom.

frames     length-prefixed messages over a socket, bounded
messages   what writer and edge say to each other: values, no behaviour
zygote     the process that forks the others, made before lock and journal are opened
family     the writer's side: starts edges, restarts them, drains them at the end
writing    the writer's end of an edge's line: stores drafts, answers, feeds
edge       the edge's end of it: what the hot routes take for a committer, a registry, a disk
relay      requests of all other routes, passed on as ASGI messages

Which part runs in which process is said in `indelible.app`. A child holds nothing but the listening
socket and its line to the writer, a pair of sockets that it was born with: there is no path that
another user could open, delete or put something else at, and nothing to authenticate.
"""
