"""The kernel's side of a session: what is attached, and what it counted since the last look."""

from __future__ import annotations

import os
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from tracekit.capture import privileges, syscalls, tiers, wire
from tracekit.capture.bpf import syscall
from tracekit.capture.bpf.loader import load
from tracekit.capture.bpf.memory import Table, map_array
from tracekit.capture.bpf.ring import Ring
from tracekit.capture.db.programs import Programs
from tracekit.capture.libraries import Libraries
from tracekit.capture.readings import (
    Account,
    Cost,
    Key,
    LifeRecord,
    Parts,
    Slots,
    SlowSpan,
    Task,
    Totals,
    comm_text,
    parts_of,
)
from tracekit.capture.rows import Row, lanes
from tracekit.capture.samplers import Samplers, possible_cpus
from tracekit.capture.tiers import Tiers
from tracekit.errors import MachineError
from tracekit.records import Loss

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Collection, Iterator, Mapping

    from tracekit.capture.options import Options
    from tracekit.capture.stacks.programs import Programs as StackPrograms

LIMIT_BYTES = 64 << 20
"""Kernel memory for histograms, whatever the number of CPUs."""

_FOLLOWS = ("on_fork", "on_exec", "on_exit", "on_rename")


class Kernel:
    """
    Loaded and attached programs. Close it to leave no trace.

    Args:
        options: target and tiers.
        cgroup_id: of the target, if it is a cgroup.
        pids: process ids of the target, if it is processes.

    Raises:
        MachineError: with the reason and what to do.
    """

    def __init__(self, options: Options, pids: tuple[int, ...], cgroup_id: int = 0) -> None:
        cpus = possible_cpus()
        if cpus > wire.MAX_CPUS:
            raise MachineError(f"cannot trace {cpus} CPUs: this build holds {wire.MAX_CPUS}", "a build with more")
        self._histograms = wire.MAX_HISTOGRAMS if options.latency else wire.MAX_HISTOGRAMS // 2
        self._shards = _shards(cpus, self._histograms)
        self._cpus = cpus
        sizes = self._shards, self._histograms
        constants = _constants(options, cgroup_id, sizes, atomic=self._shards < cpus)
        self._loaded = load("tracekit", constants, self._entries(), wire.WIRE_VERSION)
        self._missing: list[str] = []
        self._away: set[str] = set()
        self.attached: set[str] = set()
        """The tiers that are there now (capture/tiers.py)."""
        self._databases: Programs | None = None
        self._stacks: StackPrograms | None = None
        self._stack_loader: Thread | None = None
        self._constants = constants
        self._libraries: Libraries | None = None
        if options.db:
            self._load_databases(_constants(options, cgroup_id, sizes, atomic=True), libraries=options.db_libraries)
        self._open_maps()
        self._samplers = Samplers(self._loaded.programs["on_sample"], partial(_samples, self._cpu_table, self._cpus))
        for pid in pids:
            syscall.map_update(self._loaded.maps["targets"], pid.to_bytes(4, "little"), b"\1")
        self._options = options

    def _entries(self) -> dict[str, int]:
        histograms, accounts = self._histograms * self._shards, wire.MAX_ACCOUNTS * self._shards
        calls = wire.MAX_SYSCALLS * self._cpus
        sizes = {"heads": histograms, "slots": histograms, "histogram_keys": self._histograms}
        return sizes | {"accounts": accounts, "calls": calls, "parts_of_spans": wire.MAX_PARTS * self._shards}

    def _load_databases(self, constants: bytes, *, libraries: bool) -> None:
        """Without them the rest is still worth having."""
        try:
            self._databases = Programs(self._loaded.maps, constants)
            if libraries:
                self._libraries = Libraries({**self._loaded.maps, **self._databases.maps}, constants)
        except MachineError as error:
            self._missing.append(f"calls of databases: {error}")

    @property
    def db_maps(self) -> Mapping[str, int]:
        """Descriptors of what is known of databases (`capture.db.Databases`); none: their calls are not seen."""
        return self._databases.maps if self._databases else {}

    def probe_libraries(self, living: Collection[int]) -> None:
        """Have calls of databases seen inside of the client libraries of these processes, if that is wanted."""
        if self._libraries:
            self._libraries.scan(living)

    @property
    def missing(self) -> list[str]:
        """What could not be attached, a line each; the rest goes on."""
        return [*self._missing, *(self._libraries.missing if self._libraries else ())]

    @property
    def library_probes(self) -> list[str]:
        """What is probed of client libraries, and what that costs them: a line each."""
        return self._libraries.lines if self._libraries else []

    def settle_calls(self, before_ns: int) -> None:
        """End calls of databases whose answer does not say itself that it is whole, and last grew before."""
        if self._databases:
            self._databases.settle(before_ns)

    def load_stacks(self) -> None:
        """Have stacks taken as soon as the programs for them are there: the attach need not wait for them."""
        loader = Thread(target=self._load_stacks, name="stacks", daemon=True)
        try:
            loader.start()
        except RuntimeError as error:  # a limit on processes or memory
            self._missing.append(f"stacks: {error}")
        else:
            self._stack_loader = loader

    def _load_stacks(self) -> None:
        """Without them the rest is still worth having."""
        privileges.keep(privileges.LOADING)  # of this thread: others go on with more
        from tracekit.capture.stacks import series  # noqa: F401, PLC0415 - 0.1 s, in a thread of its own
        from tracekit.capture.stacks.programs import Programs  # noqa: PLC0415

        try:
            self._stacks = Programs(self._loaded.maps, self._constants)
        except MachineError as error:
            self._missing.append(f"stacks: {error}")

    def take_stacks(self, prepare: Callable[[StackPrograms], None] | None = None) -> StackPrograms | None:
        """
        Return the programs that take stacks once they are there, and attach them: None before, and after that.

        *prepare* is called with them before the first stack is taken; a MachineError of it says why there are none.
        """
        if not self._stack_loader or self._stack_loader.is_alive():
            return None
        self._stack_loader = None
        if not self._stacks:
            return None
        self._tiers.stacks = self._stacks
        try:
            if prepare:
                prepare(self._stacks)
            self._tiers.follow((), self._stacks.follow())
            if tiers.STACKS not in self._away:
                self._tiers.attach(tiers.STACKS)
                self.attached.add(tiers.STACKS)
        except MachineError as error:
            self._missing.append(f"stacks: {error}")
            return None
        except OSError as error:
            self._missing.append(f"stacks: {error.strerror}")
            return None
        return self._stacks

    def _open_maps(self) -> None:
        maps = self._loaded.maps
        self._shared = map_array(maps["shared"], wire.SHARED.size, write=True)
        first = (wire.HISTOGRAM_KINDS, 1, 1)  # rows and names below are those of what finds no room
        rest = (0,) * 7  # nothing is shed
        wire.SHARED.pack_into(self._shared, 0, *first, 1, wire.ITERATE_MARK, 0, 0, 1, wire.SPAN_OTHER + 1, 1, 1, *rest)
        self._tiers = Tiers(self._loaded, self._shared, self._cpus)
        self._tiers.databases = self._databases
        self._cpu_table = Table(maps["cpus"], wire.CPU, self._cpus)
        self._heads = Table(maps["heads"], wire.HEAD, self._histograms * self._shards)
        self._histogram_keys = Table(maps["histogram_keys"], wire.KEY, self._histograms)
        self._account_keys = Table(maps["account_keys"], wire.KEY, wire.MAX_ACCOUNTS)
        self._accounts = Table(maps["accounts"], wire.ACCOUNT, wire.MAX_ACCOUNTS * self._shards)
        self._part_keys = Table(maps["part_keys"], wire.KEY, wire.MAX_PARTS)
        self._parts = Table(maps["parts_of_spans"], wire.PARTS, wire.MAX_PARTS * self._shards)
        self._span_kinds = map_array(maps["span_kinds"], 8 * wire.MAX_SPANS)
        self._slow = map_array(maps["slow"], wire.SLOW.size * wire.MAX_SPANS, write=True)
        self._slow_ring = Ring(maps["slow_spans"], wire.SLOW_RING_BYTES)
        self._names = map_array(maps["names"], wire.COMM_LEN * wire.MAX_NAMES)
        self._calls = map_array(maps["calls"], 8 * wire.MAX_SYSCALLS * self._cpus)
        self.ring = Ring(maps["lives"], wire.RING_BYTES)
        self._rows: dict[int, Row] = {}
        self._seen_accounts: dict[int, tuple[bytes, Account]] = {}
        self._seen_parts: dict[int, tuple[bytes, Parts]] = {}
        self._seen_calls = 0
        self._misses = 0
        self._name_cache: dict[int, str] = {0: "<other>"}

    def attach(self) -> None:
        """Attach every program of the chosen tiers; from now on what is marked is traced."""
        chosen = [tiers.SCHED]
        if self._options.errors or self._options.latency:
            chosen.append(tiers.ERRORS)
        if self._options.latency:
            chosen.append(tiers.SYSCALLS)
        what = "what follows processes"
        try:
            self._tiers.follow([*_FOLLOWS, *(["on_cgroup"] if self._options.cgroup else [])])
            for what in chosen:
                self._tiers.attach(what)
        except OSError as error:
            self.close()
            raise MachineError(f"cannot attach {what}: {error.strerror}", "tracekit doctor") from error
        self.attached |= {tiers.PROCESSES, *chosen}
        self._attach_databases()
        self._sample_cpus()

    def _attach_databases(self) -> None:
        if not self._databases:
            return
        try:
            self._tiers.follow((), self._databases.follow())
            self._tiers.attach(tiers.DB)
        except OSError as error:
            self._missing.append(f"calls of databases: {error.strerror}")
        else:
            self.attached.add(tiers.DB)

    def shed(self, tier: str) -> None:
        """Take *tier* away: the traced do not pay for it any more."""
        self._tiers.detach(tier)
        self._away.add(tier)
        self.attached.discard(tier)

    def restore(self, tier: str) -> list[Task]:
        """
        Have *tier* back, and return the traced tasks if their processes may not be known.

        Raises:
            OSError: it cannot be attached again.
        """
        self._tiers.attach(tier)
        self._away.discard(tier)
        self.attached.add(tier)
        return self.mark() if tier in (tiers.SCHED, tiers.PROCESSES) else []

    def _sample_cpus(self) -> None:
        """Attach the run-queue length sampler to each CPU; without it the rest is still worth having."""
        try:
            self._samplers.attach()
        except OSError as error:
            self._missing.append(f"run-queue length, and in which code threads run: perf_event_open: {error.strerror}")

    def follow_cpus(self) -> None:
        """Sample CPUs that have come on line too."""
        self._samplers.follow()

    def drop(self, pid: int) -> None:
        """Take a process out of the target before it is marked: it has gone, and another may have its id."""
        syscall.map_delete(self._loaded.maps["targets"], pid.to_bytes(4, "little"))

    def mark(self) -> list[Task]:
        """Mark the target and return its tasks. Twice: a child forked behind the first pass is found by the second."""
        self._iterate(wire.ITERATE_MARK)
        return self._iterate(wire.ITERATE_MARK)

    def detach(self) -> None:
        """Detach every program but those in libraries, which takes seconds; counts stay readable."""
        if self._stack_loader:
            self._stack_loader.join()
        self._samplers.close()
        self._tiers.detach_all()

    def report(self) -> list[Task]:
        """Return the traced tasks and what each does."""
        return self._iterate(wire.ITERATE_REPORT)

    def close(self) -> None:
        """Detach and free everything."""
        self.detach()
        if self._stacks:
            self._stacks.close()
        if self._libraries:
            self._libraries.close()
        if self._databases:
            self._databases.close()
        self._loaded.close()

    def name(self, number: int) -> str:
        """Return the name with id *number*."""
        known = self._name_cache.get(number)
        if known is None:
            at = number * wire.COMM_LEN
            known = self._name_cache[number] = comm_text(self._names[at : at + wire.COMM_LEN])
        return known

    @property
    def threads(self) -> int:
        """Number of threads traced now."""
        return int(self._shared_field(5))

    @property
    def cut(self) -> int:
        """Number of slices whose end was not seen, as the scheduler was not looked at."""
        return self._tiers.cut

    @property
    def silent(self) -> int:
        """Number of processes that were forked while no records of lives were made."""
        return int(self._shared_field(17))

    @property
    def adopted(self) -> int:
        """Number of tasks that were on a CPU when they were marked: their first slice had no switch in."""
        return int(self._shared_field(6))

    def totals(self) -> Totals:
        """Return sums over the CPUs since the start."""
        rows = list(self._cpu_table.rows(0, self._cpus))
        columns = [sum(column) for column in zip(*rows, strict=True)]
        return Totals(columns[6], columns[7], columns[8], tuple(columns[9 : 9 + len(wire.LOSSES)]))

    def losses(self) -> list[Loss]:
        """Return what was lost since the start, by reason; `recursion` as of the last `costs`."""
        counts = dict(zip(wire.LOSSES, self.totals().losses, strict=True)) | {"recursion": self._misses}
        return [Loss(reason, count) for reason, count in counts.items() if count]

    def costs(self) -> dict[str, Cost]:
        """Return run time (counted only while statistics are on) and skipped runs of each program."""
        programs = dict(self._loaded.programs)
        for more in (self._databases, self._libraries, self._stacks):
            programs |= more.programs if more else {}
        found = {name: Cost(*syscall.program_run_time(fd)) for name, fd in programs.items()}
        self._misses = sum(cost.misses for cost in found.values())
        return found

    def histograms(self) -> Iterator[tuple[Key, Slots]]:
        """Yield what was added to each histogram since the last call."""
        used = min(self._shared_field(0), self._histograms)
        for number in range(used):
            row = self._rows.get(number)
            heads = list(self._heads.rows(number * self._shards, (number + 1) * self._shards))
            if not any(head[0] for head in heads):
                continue
            if row is None:
                row = self._rows[number] = Row(self._key_of(number), self._windows(number))
            added = row.advance(heads)
            if added:
                yield row.key, added

    def histogram_sums(self) -> Iterator[tuple[Key, Slots]]:
        """Yield each histogram as `histograms` last saw it, whole."""
        for row in self._rows.values():
            yield row.key, row.whole()

    def accounts(self) -> Iterator[tuple[Key, Account]]:
        """Yield what was added to each account since the last call."""
        used = min(self._shared_field(1), wire.MAX_ACCOUNTS)
        for number in range(used):
            raw = self._accounts.raw(number * self._shards, (number + 1) * self._shards)
            before, account = self._seen_accounts.get(number, (b"", Account(0, 0, 0, 0, 0, 0)))
            if raw == before:
                continue
            whole = Account(*map(sum, zip(*wire.ACCOUNT.iter_unpack(raw), strict=True)))
            self._seen_accounts[number] = raw, whole
            added = Account(*(now - then for now, then in zip(whole, account, strict=True)))
            if any(added):
                yield self._account_key(number), added

    def account_sums(self) -> Iterator[tuple[Key, Account]]:
        """Yield each account as `accounts` last saw it, whole."""
        for number, (_, whole) in self._seen_accounts.items():
            yield self._account_key(number), whole

    def lives(self) -> Iterator[LifeRecord]:
        """Yield the records of processes that have come."""
        for raw in self.ring.drain():
            *fields, comm = wire.LIFE.unpack(raw)
            yield LifeRecord._make((*fields, comm_text(comm)))

    def parts(self) -> Iterator[tuple[Key, Parts]]:
        """Yield what was added to the parts of spans since the last call; `nr` is the latency bucket, `err` async."""
        used = min(self._shared_field(7), wire.MAX_PARTS)
        nothing = parts_of((0,) * (wire.WAITS + 5))
        for number in range(used):
            raw = self._parts.raw(number * self._shards, (number + 1) * self._shards)
            before, parts = self._seen_parts.get(number, (b"", nothing))
            if raw == before:
                continue
            whole = parts_of(tuple(map(sum, zip(*wire.PARTS.iter_unpack(raw), strict=True))))
            self._seen_parts[number] = raw, whole
            if whole.ended > parts.ended:
                waits = tuple(now - then for now, then in zip(whole.waits, parts.waits, strict=True))
                rest = (now - then for now, then in zip(whole[1:], parts[1:], strict=True))
                yield Key(*self._part_keys.row(number)), Parts(waits, *rest)

    def slow_spans(self) -> Iterator[SlowSpan]:
        """Yield the records of slow spans that have come."""
        for raw in self._slow_ring.drain():
            start_ns, duration_ns, *rest = wire.SPAN.unpack(raw)
            yield SlowSpan(start_ns, duration_ns, tuple(rest[: wire.WAITS]), *rest[wire.WAITS :])

    def want_slow(self, span: int, floor_ns: int) -> None:
        """Ask for records of spans above *floor_ns*; the kernel itself raises that when they are many."""
        wire.SLOW.pack_into(self._slow, span * wire.SLOW.size, floor_ns, 0)

    def read_spans(self, tgid: int, mode: int, offset: int, module: int) -> None:
        """Have the current spans of a process read from now on: where its thread records are (abi/probe.h)."""
        board = wire.BOARD.pack(offset, module, mode)
        syscall.map_update(self._loaded.maps["boards"], tgid.to_bytes(4, "little"), board)
        epoch = (self._shared_field(3) + 1) & 0xFFFFFFFF
        self._shared[12:16] = epoch.to_bytes(4, "little")  # every thread looks when it next runs

    def forget_spans(self, living: Collection[int]) -> None:
        """Give the room of open spans free whose process has gone: nobody will say how they ended."""
        table, alive = self._loaded.maps["open_spans"], set(living)
        for key in syscall.map_keys(table, wire.OPEN_KEY.size, wire.MAX_SUSPENDED):
            if wire.OPEN_KEY.unpack(key)[2] not in alive:
                syscall.map_delete(table, key)

    def span_kind(self, number: int) -> int:
        """Return the id of the kind with small id *number*."""
        return int.from_bytes(self._span_kinds[8 * number : 8 * number + 8], "little")

    @property
    def spans(self) -> int:
        """Number of small ids of kinds in use, those of no span and of no room included."""
        return min(int(self._shared_field(8)), wire.MAX_SPANS)

    def calls(self) -> Iterator[tuple[int, int]]:
        """Yield (system call number, calls that ended since the last call of this)."""
        size = 8 * wire.MAX_SYSCALLS
        now = sum(int.from_bytes(self._calls[cpu * size : (cpu + 1) * size], "little") for cpu in range(self._cpus))
        added, self._seen_calls = now - self._seen_calls, now
        for number, count in enumerate(lanes(added, size)):
            if count:
                yield number, count

    def _shared_field(self, number: int) -> int:
        return int(wire.SHARED.unpack_from(self._shared, 0)[number])

    def _iterate(self, what: int) -> list[Task]:
        self._shared[16:20] = what.to_bytes(4, "little")
        found = syscall.run_iterator(self._loaded.programs["on_task"])
        return [Task._make((*fields[:-1], comm_text(fields[-1]))) for fields in wire.TASK.iter_unpack(found)]

    def _key_of(self, number: int) -> Key:
        if number < wire.HISTOGRAM_KINDS:
            return Key(0, 0, wire.NR_NONE, 0, number, 0)
        return Key(*self._histogram_keys.row(number))

    def _account_key(self, number: int) -> Key:
        return Key(*self._account_keys.row(number)) if number else Key(0, 0, wire.NR_NONE, 0, wire.A_BLOCKED, 0)

    def _windows(self, number: int) -> list[mmap.mmap]:
        """Map the slots of one row, a window a shard: a row is nine whole pages."""
        first = number * self._shards
        descriptor = self._loaded.maps["slots"]
        shards = range(first, first + self._shards)
        return [map_array(descriptor, wire.SLOTS_BYTES, shard * wire.SLOTS_BYTES) for shard in shards]


def _samples(table: Table, cpus: int) -> list[int]:
    """Return how many samples each CPU had since the start."""
    return [row[8] for row in table.rows(0, cpus)]


def _constants(options: Options, cgroup_id: int, sizes: tuple[int, int], *, atomic: bool) -> bytes:
    mode = wire.TARGET_PIDS
    if options.everything:
        mode = wire.TARGET_ALL
    elif options.cgroup:
        mode = wire.TARGET_CGROUP
    elif options.comm:
        mode = wire.TARGET_COMM
    comm = options.comm.encode("utf-8", "surrogateescape")[: wire.COMM_LEN - 1]
    flags = (mode, options.children, options.latency, atomic, options.errors or options.latency, options.db_text)
    every = wire.SAMPLE_HZ // options.stack_hz if options.stacks else 0
    return wire.CONFIG.pack(cgroup_id, os.getpid(), *sizes, *flags, every, comm, syscalls.reasons())


def _shards(cpus: int, histograms: int) -> int:
    """Return how many copies of each row fit: as many as CPUs if they do, a power of two."""
    shards = 1
    while shards < cpus and 2 * shards * histograms * wire.SLOTS_BYTES <= LIMIT_BYTES:
        shards *= 2
    return shards
