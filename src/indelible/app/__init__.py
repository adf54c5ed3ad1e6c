"""The composition root: builds the parts, wires them, and says which runs in which process.

    writer   the PID: listening socket, lock on the data folder, journal, registry; starts, restarts
             and drains the others
    edges    accept connections, read requests, admit events; they have nothing of the data folder
    reader   follows the journal's files: signed logs, accounts, retention; the API

With `settings.edges` 0 all of it is one process: the same parts, which store and look things up
directly instead of over a line. When the PID dies, however it dies, nothing of ours listens or
holds a lock any more.

storing     what stores: the writer's half of a house
following   what follows the log and answers for it: the reader's half
admitting   what accepts connections and admits events: an edge
house       the lists of parts, by process
serving     running them
"""

from indelible.app.admitting import serve_edge
from indelible.app.house import House, WritingHouse
from indelible.app.serving import (
    Bell,
    Farewell,
    Welcome,
    run,
    run_family,
    serve,
    serve_reader,
)

__all__ = [
    "Bell",
    "Farewell",
    "House",
    "Welcome",
    "WritingHouse",
    "run",
    "run_family",
    "serve",
    "serve_edge",
    "serve_reader",
]
