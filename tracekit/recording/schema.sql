-- A tracekit recording. docs/recording.md explains it; PRAGMA user_version is the format,
-- PRAGMA application_id is 0x746b7263 ("tkrc").
--
-- Times are nanoseconds of CLOCK_MONOTONIC. Payloads are deflated columns of numbers
-- (tracekit/recording/payload.py); `histograms` holds columns series, slots, total, low, high
-- (one row a series; low and high 0: not known better than by the slots) and slot (as distance
-- from the one before), count (one row a slot); `vals` series, value; `stacks` stack, weight, count;
-- `samples` series, bucket, stack, weight, count, of series of kind stacks; `parts` series, bucket, latency_ns, awaited_ns, sampled_ns, unseen_ns, errors (one row a bucket of
-- latency), then waits and async_waits (all rows of the first kind of wait, all of the second, ...).

CREATE TABLE meta (             -- host, target, clocks, settings, end: JSON each
    key     TEXT PRIMARY KEY,
    value   TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE series (
    id      INTEGER PRIMARY KEY,
    metric  TEXT NOT NULL,
    labels  TEXT NOT NULL,      -- JSON object, keys sorted
    kind    TEXT NOT NULL,      -- histogram, counter (increases), gauge (samples), stacks
    unit    TEXT NOT NULL,      -- ns, bytes, share, count, tasks
    UNIQUE (metric, labels)
);

CREATE TABLE stack (
    id      INTEGER PRIMARY KEY,
    hash    INTEGER NOT NULL,   -- 64 bits of SHA-256 of frames, equal on every machine
    frames  TEXT NOT NULL       -- JSON array, root first
);

CREATE TABLE interval (         -- one row a tick, one transaction each
    id          INTEGER PRIMARY KEY,
    start_ns    INTEGER NOT NULL,
    end_ns      INTEGER NOT NULL,
    partial     INTEGER NOT NULL,   -- 1: known to lack data
    histograms  BLOB NOT NULL,      -- what this interval added
    vals        BLOB NOT NULL,
    stacks      BLOB NOT NULL,
    parts       BLOB NOT NULL,
    samples     BLOB NOT NULL
);

CREATE TABLE checkpoint (       -- all that intervals 1..interval added: makes a whole-file read short
    interval    INTEGER PRIMARY KEY,
    histograms  BLOB NOT NULL,
    stacks      BLOB NOT NULL,
    parts       BLOB NOT NULL,
    samples     BLOB NOT NULL
);

CREATE TABLE exemplar (         -- the slowest spans of each interval, at most 8 of a series
    interval    INTEGER NOT NULL,
    series      INTEGER NOT NULL,   -- their span.latency
    tgid        INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    start_ns    INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    awaited     INTEGER NOT NULL,   -- 1: was suspended (async)
    failed      INTEGER NOT NULL,   -- 1: ended by an exception
    seen        INTEGER NOT NULL,   -- 0: the kernel did not see all of it, only the duration is true
    runq_ns     INTEGER NOT NULL,
    disk_ns     INTEGER NOT NULL,
    network_ns  INTEGER NOT NULL,
    lock_ns     INTEGER NOT NULL,
    poll_ns     INTEGER NOT NULL,
    pipe_ns     INTEGER NOT NULL,
    child_ns    INTEGER NOT NULL,
    fault_ns    INTEGER NOT NULL,
    stopped_ns  INTEGER NOT NULL,
    other_ns    INTEGER NOT NULL,
    db_ns       INTEGER NOT NULL,   -- for the answers of databases: none of the waits above
    sampled_ns  INTEGER NOT NULL,   -- on-CPU time by samples, if awaited
    errors      INTEGER NOT NULL    -- system calls that failed inside
);

CREATE TABLE process (          -- the last known state of each process of the target
    tgid        INTEGER NOT NULL,
    start_ns    INTEGER NOT NULL,
    ppid        INTEGER NOT NULL,
    role        TEXT NOT NULL,
    seen        TEXT NOT NULL,      -- spawned, found
    first_run_ns INTEGER NOT NULL,
    exec_ns     INTEGER NOT NULL,
    ready_ns    INTEGER NOT NULL,
    exit_ns     INTEGER NOT NULL,
    exit_code   INTEGER NOT NULL,
    signal      INTEGER NOT NULL,
    core        INTEGER NOT NULL,
    oom         INTEGER NOT NULL,
    span        TEXT NOT NULL,      -- of the parent, in which it was forked; "" outside
    PRIMARY KEY (tgid, start_ns)
) WITHOUT ROWID;

CREATE TABLE in_flight (        -- written once, when the recording ends
    pid     INTEGER NOT NULL,
    tgid    INTEGER NOT NULL,
    role    TEXT NOT NULL,
    thread  TEXT NOT NULL,
    state   TEXT NOT NULL,          -- running, runnable, blocked
    reason  TEXT NOT NULL,
    syscall TEXT NOT NULL,
    age_ns  INTEGER NOT NULL,
    span    TEXT NOT NULL           -- "" outside
);

CREATE TABLE loss (
    interval INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (interval, reason)
) WITHOUT ROWID;
