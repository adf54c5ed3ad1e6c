"""The dialects that the server speaks, one module each; see `indelible.edge.dialect`."""

from typing import Final

from indelible.edge.dialect import Dialect
from indelible.edge.dialects import immutablelog, posthog, vtilt

DIALECTS: Final[tuple[Dialect, ...]] = (
    vtilt.DIALECT,
    posthog.DIALECT,
    immutablelog.SINGLE,
    immutablelog.BATCH,
)
