"""The processes of one server: how they are made, what they say to each other, who ends whom.

frames     length-prefixed messages over a socket, bounded
messages   what writer, edges and reader say to each other: values, no behaviour
zygote     the process that forks the others, made before lock and journal are opened
children   the writer's side: starts them, starts those anew that end
family     the writer's side: what each must know, and the order of start and stop
feed       what edges know of the registry, and when a change of it is acknowledged
child      the writer's end of any child's line
writing    the writer's end of an edge's line: stores drafts, answers, feeds
following  the writer's end of the reader's line: makes its changes, has receipts brought
edge       the edge's end of it: what the hot routes take for a committer, a registry, a disk
reader     the reader's end of it: what followers and API take for a store, and for an eraser
relay      requests of all other routes, passed on as ASGI messages

Which part runs in which process is said in `indelible.app`. A child holds nothing but what it was
born with: the listening socket, its line to the writer and an end of the bell. There is no path
that another user could open, delete or put something else at, and nothing to authenticate.
"""
