"""What exists to wait, so that long times in it are usual: system calls, and commands of databases."""

from __future__ import annotations

_SYSTEM_CALLS = """poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2 nanosleep clock_nanosleep pause
    rt_sigsuspend rt_sigtimedwait restart_syscall accept accept4"""
SYSTEM_CALLS = frozenset(_SYSTEM_CALLS.split())
"""Sleeps, and waits for whatever comes first."""

_OPERATIONS = {
    "redis": """BLPOP BRPOP BLMOVE BLMPOP BRPOPLPUSH BZPOPMIN BZPOPMAX BZMPOP XREAD XREADGROUP WAIT WAITAOF
        SUBSCRIBE PSUBSCRIBE SSUBSCRIBE MONITOR""",
}
OPERATIONS = frozenset((system, name) for system, names in _OPERATIONS.items() for name in names.split())
"""(system, operation): commands that are answered when another client does something, or a time is over."""
