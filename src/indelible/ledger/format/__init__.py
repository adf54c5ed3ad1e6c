"""The formats of the ledger, and checking a receipt. Pure: bytes and values in, values out.

They are those of the C2SP family (signed notes, checkpoints, tiles, cosignatures, portable proofs,
policies), so that checkers exist which we did not write. Each module's docstring is the
specification that it follows.

    tree, tile, layout    RFC 6962, cut into files; what a log publishes, by name
    note, checkpoint      what a log signs
    cosignature, policy   what witnesses sign, and whom to believe
    proof, opening        a receipt: the portable proof, and what it carries besides
    verify                checking a receipt
"""
