"""61 blocks of 4096 bytes, written around the page cache and read again, by a process that lives on for a while."""

import mmap
import os
import sys
import time

BLOCKS, BLOCK = 61, 4096

block = mmap.mmap(-1, BLOCK)  # aligned, as O_DIRECT wants it
data = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
for number in range(BLOCKS):
    os.pwritev(data, [block], number * BLOCK)
for number in range(BLOCKS):
    os.preadv(data, [block], number * BLOCK)
time.sleep(0.5)
