"""Facts about a few ids, drawn by hypothesis: as the log of a small project has them."""

from dataclasses import replace

from hypothesis import strategies as st

from indelible.identity.fold import Claim, Decision, Facts, Merged, Node, Unmerged
from indelible.identity.person import MergeKind

IDS = tuple("abcdefgh")

ids = st.sampled_from(IDS)
pairs = st.lists(ids, min_size=2, max_size=2, unique=True)


@st.composite
def logs(draw: st.DrawFn, *, decisions: bool = True) -> Facts:
    """Any facts: claims, identified ids, merges and unmerges of every form, in any order."""
    claims: list[Claim] = []
    decided: list[Decision] = []
    identified: dict[Node, int] = {}
    forms = ["identify", "alias", "known"] + (
        ["merged", "whole", "some", "undone"] if decisions else []
    )
    for at, form in enumerate(draw(st.lists(st.sampled_from(forms), max_size=24))):
        one, other = draw(pairs)
        if form == "identify":
            identified.setdefault(other, at)
            claims.append(Claim(at, MergeKind.IDENTIFY, one, other))
        elif form == "alias":
            claims.append(Claim(at, MergeKind.ALIAS, one, other))
        elif form == "known":
            identified.setdefault(one, at)
        elif form == "merged":
            decided.append(Merged(at, (one, other)))
        elif form == "whole":
            decided.append(Unmerged(at, one, (one, other)))
        elif form == "some":
            out = tuple(draw(st.lists(ids, min_size=1, max_size=3, unique=True)))
            decided.append(Unmerged(at, one, taken_out=out))
        else:
            decided.append(Unmerged(at, one, pair=(one, other)))
    return Facts(claims, decided, identified, IDS)


@st.composite
def peaceful(draw: st.DrawFn) -> Facts:
    """Claims without a conflict: every id is claimed for one user at most, no alias is a user."""
    users = IDS[:3]
    claims: list[Claim] = []
    identified: dict[Node, int] = {}
    owner = {one: draw(st.sampled_from(users)) for one in IDS[3:]}
    members = {
        user: [user, *(one for one, whose in owner.items() if whose == user)] for user in users
    }
    for at in range(draw(st.integers(0, 20))):
        user = draw(st.sampled_from(users))
        one = draw(st.sampled_from(members[user]))
        if draw(st.booleans()):
            identified.setdefault(user, at)
            if one != user:
                claims.append(Claim(at, MergeKind.IDENTIFY, one, user))
        else:
            other = draw(st.sampled_from(members[user]))
            if one not in (user, other):
                claims.append(Claim(at, MergeKind.ALIAS, one, other))
    return Facts(claims, (), identified, IDS)


def renumbered(facts: Facts, order: list[int]) -> Facts:
    """The same claims in another order of the log. Ids are identified where a claim says so."""
    claims = [replace(facts.claims[old], index=new) for new, old in enumerate(order)]
    identified: dict[Node, int] = {}
    for claim in claims:
        if claim.kind is MergeKind.IDENTIFY:
            identified.setdefault(claim.other, claim.index)
    return Facts(claims, (), identified, IDS)
