"""Auditing: a whole log is computed again, and compared with all that speaks of it.

whole                             the audit, in the order of its checks
checks                            one module each
sources, known, memory            what it reads: the log's files; journal and lock, handed in;
                                  what this auditor saw before
findings                          what it says
evidence                          a log in one file, for strangers; `stranger` is their checker
attack, forgeries, forgeable      which forgery of a log is noticed by whom
"""
