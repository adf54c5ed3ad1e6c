"""The ledger: what makes every event provable, and still erasable.

The formats are those of the C2SP family (signed notes, checkpoints, tiles, cosignatures, portable
proofs, policies), so that checkers exist which we did not write. Their modules are pure; each one's
docstring is the specification that it follows.

    tree, tile, note, checkpoint, cosignature, proof, policy    formats, pure
    opening                       what a receipt of ours carries besides the proof, pure
    verify, audit                 checking, with `cryptography` alone
    tilestore, lockstore, keys    what lies on disk
    logs, sealer, cosigner        writing: a log's birth, its checkpoints, their cosignatures
    progress, receipts, erase     what the rest of the house asks for
"""
