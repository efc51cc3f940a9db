"""The user behind sudo."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """The user behind sudo, to whom files and launched commands belong."""

    uid: int
    gid: int
    name: str
    home: str


def owner() -> Owner | None:
    """Return the user behind sudo; None if there is none."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdigit() or uid == "0":
        return None
    try:
        entry = pwd.getpwuid(int(uid))
    except KeyError:
        return None
    return Owner(entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir)
