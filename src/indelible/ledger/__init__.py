"""The ledger: what makes every event provable, and still erasable.

format                        the formats, and checking a receipt: pure, usable by itself
audit                         checking a whole log; and forging one, to see who notices
witness                       being a witness, and asking others
tilestore, lockstore, seals   what lies on disk
logs, sealer, witnessing      writing: a log's birth, its checkpoints, their cosignatures
ledger, progress, receipts    what the rest of the house asks for
files, notes, stored          what lies on disk, read so that damage is named and not handed on
soundness, scrub, damages     comparing it with what was signed, and rebuilding it
restore, resume               going on after a loss, and after a fork
"""
