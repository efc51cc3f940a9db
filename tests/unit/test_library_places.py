"""Where in a function a probe is put: on the first instruction that the kernel emulates, if that changes nothing."""

from __future__ import annotations

import pytest

from tracekit.capture.libraries.place import CX, DI, DX, R9, SI, Place, place

ENTRY = Place(0, 0, fast=False)
READS = frozenset([DI, SI])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("55 48 89 e5", Place(0, 0, fast=True), id="push %rbp"),
        pytest.param("41 57 41 56", Place(0, 0, fast=True), id="push %r15"),
        pytest.param("90 c3", Place(0, 0, fast=True), id="nop"),
        pytest.param("f3 0f 1e fa 55", Place(4, 0, fast=True), id="endbr64; push"),
        pytest.param("48 85 ff 0f 84 60 01 00 00", Place(3, 0, fast=True), id="test %rdi,%rdi; je"),
        pytest.param("31 c0 48 85 ff 74 06", Place(5, 0, fast=True), id="xor %eax,%eax; test; je"),
        pytest.param("ba 01 00 00 00 e9 a6 eb ff ff", Place(5, 0, fast=True), id="mov $1,%edx; jmp"),
        pytest.param(
            "48 83 ec 10 49 89 c9 b9 80 00 00 00 41 50", Place(12, 16, fast=True), id="sub $16,%rsp; mov; mov; push"
        ),
        pytest.param("48 81 ec 00 01 00 00 53", Place(7, 256, fast=True), id="sub $256,%rsp; push"),
        pytest.param("48 8d 44 24 08 53", Place(5, 0, fast=True), id="lea 8(%rsp),%rax; push"),
        pytest.param("48 8b 05 11 22 33 44 53", Place(7, 0, fast=True), id="mov rip-relative; push"),
        pytest.param("49 b8 01 02 03 04 05 06 07 08 53", Place(10, 0, fast=True), id="mov $imm64,%r8; push"),
        pytest.param("48 89 fe 53", ENTRY, id="mov %rdi,%rsi: an argument is gone"),
        pytest.param("be 01 00 00 00 53", ENTRY, id="mov $1,%esi: an argument is gone"),
        pytest.param("48 83 e4 f0 53", ENTRY, id="and $-16,%rsp: nobody knows where the stack is"),
        pytest.param("48 89 e5 c9 53", ENTRY, id="leave: not known"),
        pytest.param("66 0f ef c0 53", ENTRY, id="pxor: not known"),
        pytest.param("0f 05 53", ENTRY, id="syscall: not known"),
        pytest.param("c3", ENTRY, id="ret"),
        pytest.param("48", ENTRY, id="half an instruction"),
        pytest.param("", ENTRY, id="nothing"),
    ],
)
def test_places(code: str, expected: Place):
    """Prologues that compilers make, and what must not be stepped over."""
    assert place(bytes.fromhex(code), READS, returns=False) == expected


def test_returns_need_the_stack_as_it_was():
    """The kernel takes the return address from the top of the stack: behind `sub` it would take something else."""
    assert place(bytes.fromhex("48 83 ec 10 53"), READS, returns=True) == ENTRY
    assert place(bytes.fromhex("f3 0f 1e fa 53"), READS, returns=True) == Place(4, 0, fast=True)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(
            "48 83 ec 10 49 89 c9 b9 80 00 00 00 41 50", Place(12, 16, fast=True, moved=R9), id="mov %rcx,%r9"
        ),
        pytest.param("4c 8b c9 31 c9 53", Place(5, 0, fast=True, moved=R9), id="mov %rcx,%r9, as others encode it"),
        pytest.param("49 89 c9 53", Place(3, 0, fast=True, moved=CX), id="it is still there"),
        pytest.param("b9 80 00 00 00 53", Place(0, 0, fast=False, moved=CX), id="it is gone"),
        pytest.param("41 89 c9 31 c9 53", Place(0, 0, fast=False, moved=CX), id="half of it is moved"),
        pytest.param("49 89 cb 31 c9 53", Place(0, 0, fast=False, moved=CX), id="to %r11, where nobody looks"),
    ],
)
def test_an_argument_may_move(code: str, expected: Place):
    """Where the compiler needs its register for something else, it is found where it went."""
    assert place(bytes.fromhex(code), READS, returns=False, movable=CX) == expected


def test_only_arguments_that_are_read_matter():
    """What nobody reads may change."""
    code = bytes.fromhex("b9 80 00 00 00 53")

    assert place(code, frozenset([DI, SI, DX]), returns=False) == Place(5, 0, fast=True)
    assert place(code, frozenset([CX]), returns=False) == ENTRY
