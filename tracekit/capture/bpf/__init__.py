"""The one door to bpf(2): system calls, loader of light skeletons, maps as memory, the ring."""
