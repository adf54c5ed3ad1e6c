"""The ledger: what makes every event provable, and still erasable.

The formats are those of the C2SP family (signed notes, checkpoints, tiles, cosignatures, portable
proofs, policies), so that checkers exist which we did not write. Their modules are pure; each one's
docstring is the specification that it follows.

    tree, tile, note, checkpoint, cosignature, proof, policy    formats, pure
    opening                       what a receipt of ours carries besides the proof, pure
    verify                        checking a receipt, with `cryptography` alone
    audit, checks                 checking a whole log; what it reads and says: sources, known,
                                  memory, findings
    tilestore, lockstore, seals   what lies on disk
    logs, sealer                  writing: a log's birth, its checkpoints
    witnessing, cosigners         asking witnesses for their cosignatures
    witness, witness_http         being one
    ledger, progress, receipts    what the rest of the house asks for
    erase, retention, restore     destroying contents, and going on after a loss
    evidence                      a log in one file, for strangers
    attack, forgeries, forgeable  which forgery of a log is noticed by whom
"""
