"""How much somebody may have or do, how much of it is used, and how an answer's headers say it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Quota:
    """One limit of an account or an organization.

    Args:
        name: stable, for programs: “uploads”.
        label: for people.
        used: so much counts against it now.
        most: the limit; 0: there is none.
        unit: “bytes”, “seconds”, or empty for what is counted.
        window_s: what is counted leaves after so many seconds; 0: it stays until it is deleted or ends.
        resets_s: in so many seconds the oldest that is counted leaves.
    """

    name: str
    label: str
    used: int
    most: int
    unit: str = ""
    window_s: int = 0
    resets_s: int = 0

    @property
    def left(self) -> int:
        return max(0, self.most - self.used)

    @property
    def is_used_up(self) -> bool:
        return bool(self.most) and self.used >= self.most

    @property
    def headers(self) -> dict[str, str]:
        return quota_headers([self])


def quota_headers(quotas: Iterable[Quota]) -> dict[str, str]:
    """RateLimit headers, as draft-ietf-httpapi-ratelimit-headers has them; none without a limit."""
    limited = [quota for quota in quotas if quota.most]
    if not limited:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{each.name}";q={each.most}{window_of(each)}' for each in limited),
        "RateLimit": ", ".join(f'"{each.name}";r={each.left};t={each.resets_s}' for each in limited),
    }


def window_of(quota: Quota) -> str:
    return f";w={quota.window_s}" if quota.window_s else ""
