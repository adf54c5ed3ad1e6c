"""The edge: turns requests into drafts and outcomes into answers.

asgi       the hot path: paths to handlers, CORS, errors to answers
pipeline   the one way of a request of either lane: gate, admit, store, answer
dialect    what a dialect is; `dialects` has one module for each, and the tuple of all
arrival    what the steps hand to each other: a request's facts, the items of its batch
body       bytes as sent to JSON text, layer by layer, within a budget
gate       token or key to project; who may do what
admission  the list of steps that may drop an event or put something on it
lost       what a sender reports of the events that it could not send
settle     what the journal's outcome means for an event
results    the answer of product routes
schema     how a dialect describes its bodies and answers
intake     what the pipeline needs of the rest of the house
"""
