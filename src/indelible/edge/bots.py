"""Crawlers, known by their User-Agent.

The list is crawler-user-agents', without its HTTP libraries: Go's and reqwest's clients, curl and
python-requests are how the guides themselves send events, and never count as crawlers.
"""

import re
from functools import lru_cache
from typing import Final

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

_HTTP_LIBRARY: Final = "http-library"
_CRAWLERS: Final = re.compile(
    "|".join(
        entry["pattern"]
        for entry in CRAWLER_USER_AGENTS_DATA
        if _HTTP_LIBRARY not in entry.get("tags", [])
    )
)


@lru_cache(maxsize=4096)
def is_crawler(user_agent: str) -> bool:
    """Whether this User-Agent is a search, SEO or AI crawler, a headless browser or their like."""
    return _CRAWLERS.search(user_agent) is not None
