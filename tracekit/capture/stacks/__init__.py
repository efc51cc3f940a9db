"""Stacks of the target, from the words that the walkers of the kernel send to series of frames with names."""
