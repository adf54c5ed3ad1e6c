"""PostHog's v0 dialect, as far as it is spoken: batches at ``/batch``, of the shapes of vTilt's.

PostHog's clients take a 204 for a failure and send again, so crawlers are marked here, and an
answer is always 200.
"""

from typing import Final

from indelible.edge.dialect import Dialect, Path
from indelible.edge.dialects.vtilt import read, tokens
from indelible.edge.dialects.vtilt_schema import describe
from indelible.edge.intake import Limits
from indelible.edge.results import answer_product
from indelible.edge.schema import Schema
from indelible.event import Lane

_SUFFIXES: Final = {"/batch/": "_batch", "/batch": "_batch_without_slash"}
_PATHS: Final = tuple(Path(path, ("POST", "GET"), crawlers="mark") for path in _SUFFIXES)
_MORE: Final = " The path that PostHog's clients send to: crawlers are marked, not discarded."


def schema(limits: Limits) -> Schema:  # noqa: ARG001 — the bodies are those of vTilt
    """Describe the same bodies at other paths."""
    operations = {
        path: describe(suffix=suffix, more=_MORE, may_be_empty=False)
        for path, suffix in _SUFFIXES.items()
    }
    return Schema(operations, {})


DIALECT: Final = Dialect(Lane.PRODUCT, _PATHS, read, tokens, answer_product, schema)
