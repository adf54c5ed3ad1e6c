"""The edge: turns requests into drafts and outcomes into answers.

asgi      the hot path: paths to handlers, CORS, errors to answers
body      bytes as sent to JSON text, layer by layer, within a budget
gate      token or key to project; who may do what
admission the list of steps that may drop an event or put something on it
lost      what a sender reports of the events that it could not send
product   what all product dialects share: admit, store, answer
vtilt, posthog, immutablelog   one module for each dialect
"""
