"""Crawlers, known by their User-Agent, and the senders that only look like them.

The list of crawlers is crawler-user-agents'. It covers everything that reads web pages, and three
kinds of agents on it send events that must not be lost:

- **HTTP libraries**, most of which it tags as such: Go's and reqwest's clients, curl and
  python-requests are how the guides themselves send events.
- **Servers that send for their users**: URL fetchers of platforms, automation tools, content
  management systems, webhooks. They are listed because they fetch pages as well.
- **People's browsers**: those inside applications, and any on a telephone that the list mistakes.

None of these counts as a crawler. Tomorrow's list will have more of them, so the server discards a
request as a crawler's only if it has a browser's headers too. A crawler that runs a page's script
does so in a browser, which adds them by itself. Someone wrote the code that sends a request without
them, with the project's token: the server marks it at most.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

_HTTP_LIBRARY: Final = "http-library"
_NO_CRAWLERS: Final = frozenset(
    {
        r"Indy Library",  # Delphi's HTTP library, without its tag
        r"AP3A\.240617\.008",  # a build of Android 15 that several makers ship
        r"MetaIAB Facebook",  # Facebook's application
        r"Code\/1\.",  # Visual Studio Code
        r"Trae\/",  # an editor derived from it
        r"Fluid",  # turns a web site into an application
    }
)
"""Entries of the list, by their pattern, that name no crawler."""

_CRAWLERS: Final = re.compile(
    "|".join(
        entry["pattern"]
        for entry in CRAWLER_USER_AGENTS_DATA
        if _HTTP_LIBRARY not in entry.get("tags", []) and entry["pattern"] not in _NO_CRAWLERS
    )
)

_SENDERS: Final = re.compile(
    "|".join(
        (
            # Google: scripts (UrlFetchApp), formulas of spreadsheets (IMPORTDATA), App Engine's
            # URL Fetch, and the push notifications of its APIs.
            r"Google-Apps-Script|\bGoogleDocs\b|AppEngine-Google|^APIs-Google",
            # Automation tools: the step "HTTP request" or "webhook" of someone's flow.
            r"^Zapier|^Make/|^Integromat/|^IFTTT/|^Retool/|^HubSpot (?:Connect|Workflows)",
            # Content management and shops, whose plug-ins send from the server. WordPress adds the
            # address of the site, which may say anything, such as `speedy.example`.
            r"^(?:WooCommerce\S* Hookshot \()?WordPress/|^MoodleBot/|^Shopify-|^Snipcart/|^Metorik",
            r"^Bling ERP|^easybill-|^SparkShipping|^Sora POS/",
            # Others that run their users' code, tags or integrations on a server.
            r"^SFDC-Callout/|^Stape/|^Mattermost-Bot/|^Slackbot 1\.|(?:^| )sentry/",
            # Webhooks, by which payments, mail and the like tell what has happened.
            r"[Ww]eb[Hh]ook|^Stripe/|^PayPal/|^Mollie HTTP client|^GoPay|^Trustly/|^WJHRO/",
            r"^ChargeBee|^Klaviyo/|^Omnisend/|^MailChimp\.com|^SendGrid Event API|^SparkPost",
            r"^TwilioProxy/|^YokoyGroupAG/|Cloudflare-Stream-Hook",
            # Timers that call an address.
            r"^EasyCron/|\bcron-job\.org|^Cronless",
            # People's applications that share a word with a fetcher of link previews.
            r"\b(?:Notion|Slack)/\S+ Chrome/\S+ Electron/|^Mozilla/.* Viber/",
        )
    )
)
"""Agents on the list that send events for someone."""

_LOOKED_AT_CHARS: Final = 512
"""Nearly twice the longest agent on the list. One of 64 KB would block the loop for a second."""

_OF_BROWSERS: Final = (b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-dest", b"sec-ch-ua")
"""Headers of which a browser adds at least one to an event.

It adds `Origin` to every POST (Fetch, "append a request `Origin` header"). To an image that a page
loads with GET it adds `Referer`, unless the page forbids that, and over HTTPS `Sec-Fetch-…`.
`Sec-Fetch-Mode` and `Accept-Language` prove nothing: the `fetch` of Node.js sends both.
"""


def is_crawler(user_agent: str) -> bool:
    """Whether this User-Agent is a search, SEO or AI crawler, a headless browser or their like."""
    return _is_crawler(user_agent[:_LOOKED_AT_CHARS])


@lru_cache(maxsize=4096)
def _is_crawler(user_agent: str) -> bool:
    return _CRAWLERS.search(user_agent) is not None and _SENDERS.search(user_agent) is None


def is_from_browser(has_header: Callable[[bytes], bool]) -> bool:
    """Whether the request has a header that browsers add and HTTP libraries don't."""
    return any(map(has_header, _OF_BROWSERS))
