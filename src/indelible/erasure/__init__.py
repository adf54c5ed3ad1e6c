"""Erasure: contents are destroyed, and every proof still holds.

    erase        on request, with a certificate; that it was done is itself an event of the log
    retention    what a project keeps for so many days only, by the hour

The rows are the journal's (`journal.erasing`); who may ask is for the API and the command line.
"""
