"""Processes with spans that lie, or die: nothing hangs, and the spans of others are true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel.spanned import failed, made_of, record

if TYPE_CHECKING:
    from tests.kernel.lab import Lab


def test_a_process_that_lies_about_its_threads(lab: Lab) -> None:
    """Wild pointers, a ring of spans, spans that end before they begin: nothing hangs, and others' spans are true."""
    liar = """
    import ctypes, struct, threading
    from tracekit.capture.probes import layout
    from tracekit import probe
    from tracekit.probe import span
    real = bytearray(probe.board())
    mode, offset = struct.unpack_from("=Iq", real, 20)
    assert mode == 1, mode
    library = ctypes.CDLL(None)
    library.pthread_self.restype = ctypes.c_ulong
    def record():
        return (ctypes.c_uint64 * 7).from_address(library.pthread_self() + offset)
    """
    run = record(
        lab,
        """
        import time
        def lie(numbers, times=100):
            for _ in range(times):
                a()
                time.sleep(0)
        with span("before"):
            a(5)
            mine = record()
            truth_of_it = list(mine)
            ring = (ctypes.c_uint64 * 3)()
            ring[0], ring[1], ring[2] = 1, 2, ctypes.addressof(ring)
            wild = [1, 0xdeadbeef, 2**63, 2**64 - 1, ctypes.addressof(ring), 4096]
            for number in range(7):
                for value in wild:
                    mine[number] = value
                    for _ in range(11):
                        b()
                        time.sleep(0.0001)
                    mine[number] = truth_of_it[number]
            for number in range(7):
                mine[number] = truth_of_it[number]
            a(7)
        pid = os.fork()
        if not pid:
            with span("honest"):
                c(101)
                time.sleep(1)
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        before=liar,
    )

    found = failed(run)
    assert found["before", "a"] == 12
    assert sum(count for (_, call), count in found.items() if call == "b") == 7 * 6 * 11
    assert found["honest", "c"] == 101
    assert run.events("span.latency", span="before").count == 1


def test_a_process_that_lies_about_its_board(lab: Lab) -> None:
    """What it says of itself to the kernel leads nowhere: its calls are counted, and no span is made up."""
    run = record(
        lab,
        """
        import fcntl, struct
        memfd = os.memfd_create("tracekit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(memfd, 1033, 7)  # F_ADD_SEALS: without any it is no board
        assert fcntl.fcntl(memfd, 1034) == 7
        headers = [
            struct.pack("<8s4IqQQ", b"TRACEKIT", 1, 1 << 20, os.getpid(), mode, offset, module, at)
            for mode in (0, 1, 2, 3, 4, 2**32 - 1)
            for offset in (0, -8, 2**62)
            for module in (0, 1, 2**32 - 1, 2**64 - 1)
            for at in (0, 1, 4096, 2**64 - 1)
        ]
        for header in [b"", b"TRACEKIT", b"NONSENSE" * 20, *headers]:
            if os.fork() == 0:
                fcntl.fcntl(memfd, 1034, header)  # F_GET_SEALS
                a(3)
                os._exit(0)
            os.wait()
        truth(headers=len(headers) + 3)
        """,
        before="",
    )

    found = failed(run)
    assert set(found) <= {("", "a"), ("<unknown>", "a")}
    assert sum(found.values()) == 3 * run.truth["truth"]["headers"]
    assert run.lost.get("span_read", 0) > 0, "the kernel followed none of them"


def test_what_died_in_a_span_leaves_room_for_others(lab: Lab) -> None:
    """Three processes are killed with 3000 waiting spans each, more than there is room for: later spans are whole."""
    run = record(
        lab,
        """
        import asyncio, signal, time
        async def wait():
            with span("killed"):
                time.sleep(0.00002)
                await asyncio.sleep(100)
        async def main():
            tasks = [asyncio.create_task(wait()) for _ in range(3000)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in range(3):
            pid = os.fork()
            if not pid:
                asyncio.run(main())
            os.waitpid(pid, 0)
            time.sleep(0.3)
        for _ in range(23):
            with span("after"):
                time.sleep(0.01)
        """,
    )

    found = made_of(run, "after")
    assert found.count == 23
    assert found.share("poll") + found.share("runq") > 0.9
    assert run.lost["span"] > 0
