"""How much somebody may have or do, how much of it is used, and how an answer's headers say it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quota:
    """One limit of an account or an organisation.

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
        """RateLimit headers, as draft-ietf-httpapi-ratelimit-headers has them; none without a limit."""
        if not self.most:
            return {}
        window = f";w={self.window_s}" if self.window_s else ""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.most}{window}',
            "RateLimit": f'"{self.name}";r={self.left};t={self.resets_s}',
        }
