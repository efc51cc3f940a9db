"""
A process that writes into its own interpreter, again and again. Arguments: way, name of the process, TRUTH.

While something is corrupted its main thread sleeps or works in C, where nobody else reads it; then it is mended.
The truth: {"rounds": how many times}.
"""

import ctypes
import json
import os
import select
import sys
import time
from pathlib import Path

WAY = sys.argv[1]
ROUNDS = 8
GARBAGE = 0x4141414141414141
WILD = 0x7FFFFFFFF000
OFFSETS = {
    8: {"head": 32, "threads": 8, "next": 8, "id": 176, "frame": 24, "code": 32, "back": 24},
    11: {"head": 40, "threads": 16, "next": 8, "id": 152, "cframe": 56, "frame": 8, "code": 32, "back": 48},
    13: {"head": 632, "threads": 7344, "next": 8, "id": 152, "frame": 72, "code": 0, "back": 8},
}
"""As in the headers of these versions."""
AT = OFFSETS[sys.version_info[1]]
libc = ctypes.CDLL(None)
usleep = ctypes.PyDLL(None).usleep  # keeps the interpreter's lock: no other thread meets what is corrupted
ctypes.pythonapi.PyThreadState_Get.restype = ctypes.c_void_p


def word(address):
    return ctypes.c_uint64.from_address(address)


def state():
    return ctypes.pythonapi.PyThreadState_Get()


def frame(callers):
    """Return the address of the frame of a caller."""
    holder = state()
    if "cframe" in AT:
        found = word(word(holder + AT["cframe"]).value + AT["frame"]).value
    else:
        found = word(holder + AT["frame"]).value
    for _ in range(callers):
        found = word(found + AT["back"]).value
    return found


def places():
    """Return what is written where: addresses and values."""
    back = frame(3)  # of around(): nobody reads it before it is mended
    if WAY == "cycle":  # of frames
        return [(back + AT["back"], back)]
    if WAY == "wild":  # a pointer to nowhere
        return [(back + AT["back"], WILD)]
    if WAY == "odd":  # addresses that are none
        return [(back + AT["back"], GARBAGE)]
    if WAY == "garbage":  # code that is none
        return [(back + AT["code"], id(NO_CODE))]
    if WAY == "code":  # code nowhere
        return [(back + AT["code"], WILD)]
    if WAY == "threads":  # a cycle of thread states, and this one is not found
        return [(state() + AT["next"], state()), (state() + AT["id"], GARBAGE)]
    raise ValueError(WAY)


def corrupted():
    """Write, sleep and work, and mend, with nothing of Python between but calls of C."""
    words = [(word(address), value) for address, value in places()]
    old = [it.value for it, _ in words]
    (first, wrong), (was, *_) = words[0], old
    second, wrong_too, was_too = (words[1][0], words[1][1], old[1]) if words[1:] else (first, wrong, was)
    first.value = wrong
    second.value = wrong_too
    usleep(15_000)
    crc32(0, ROOM, SIZE)
    rmdir(b"/missing/folder")
    first.value = was
    second.value = was_too


def stay():
    """Wait for the word to begin, where the walkers meet it often."""
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        pass


def around():
    for _ in range(ROUNDS):
        corrupted()
        time.sleep(0.002)


def healthy():
    time.sleep(0.03)


NO_CODE = b"no code at all" * 10
SIZE = 20 << 20
ROOM = ctypes.create_string_buffer(SIZE)
crc32 = ctypes.PyDLL("libz.so.1").crc32
rmdir = ctypes.PyDLL(None).rmdir
if __name__ == "__main__":
    Path("/proc/self/comm").write_text(sys.argv[2])
    Path(sys.argv[3] + ".ready").touch()
    stay()
    around()
    healthy()
    Path(sys.argv[3]).write_text(json.dumps({"rounds": ROUNDS}))
    time.sleep(0.15)  # names are read ten times a second
    os._exit(0)
