"""Which account the database server runs as. Postgres refuses to run as root, so root lends it another."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hub_site.embedded.refusal import EmbeddedError


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        """Try it as that account: modes, owners, mounts and access lists all have their say."""
        probe = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)]
        return (
            subprocess.run(
                probe, user=self.uid, group=self.gid, extra_groups=[], cwd="/", check=False
            ).returncode
            == 0
        )


def database_account() -> Account | None:
    """None for an ordinary user, who runs everything under their own account."""
    if os.geteuid() != 0:
        return None
    name = os.environ.get("HUB_POSTGRES_ACCOUNT", "").strip() or "nobody"
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedError(
            f"The setting HUB_POSTGRES_ACCOUNT names “{name}”, but this machine has no such account. "
            "Example: HUB_POSTGRES_ACCOUNT=nobody"
        ) from None
    if entry.pw_uid == 0:
        raise EmbeddedError(
            "Postgres refuses to run as root. Set HUB_POSTGRES_ACCOUNT to an account without rights, "
            "such as HUB_POSTGRES_ACCOUNT=nobody"
        )
    return Account(name, entry.pw_uid, entry.pw_gid)
