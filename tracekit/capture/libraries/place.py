"""
Where in a function a probe costs least.

The kernel emulates few instructions: push, nop, and jumps and calls to where the instruction itself says. For
any other one the thread is made to execute a copy of it, step by step, which takes ten times as long. So a probe
is put behind instructions of which it is known what they do, on the first one that is emulated; all of them are
executed once and in order whenever the function is called, and the arguments that are read are left alone.

Source:
    arch/x86/kernel/uprobes.c: branch_setup_xol_ops, push_setup_xol_ops; Intel SDM volume 2.
"""

from __future__ import annotations

from typing import NamedTuple

DI, SI, DX, CX, SP, R8, R9 = 7, 6, 2, 1, 4, 8, 9
"""Numbers of registers, as instructions have them."""
MOST_BYTES = 64
"""Of a function that are looked at."""

_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_TO_REGISTER = frozenset([0x03, 0x0B, 0x23, 0x2B, 0x33, 0x63, 0x8B, 0x8D])
_TO_OPERAND = frozenset([0x01, 0x09, 0x21, 0x29, 0x31, 0x89])
_STORE, _LOAD = 0x89, 0x8B
_TO_NOTHING = frozenset([0x39, 0x3B, 0x84, 0x85])
_WITH_BYTE, _WITH_WORD = frozenset([0x80, 0x83]), frozenset([0x81])
_COMPARE = 7
_CAN_BE_READ = (CX, R8, R9)
"""Registers in which a program looks for an argument that was moved."""


class Place(NamedTuple):
    """
    Where to put a probe.

    Attributes:
        offset: bytes behind the function's first one.
        stack: how much lower the stack pointer is there.
        fast: the instruction there is emulated.
        moved: the register that has the argument which may be moved; -1: there is none.
    """

    offset: int
    stack: int
    fast: bool
    moved: int = -1


class _Instruction(NamedTuple):
    """
    How long it is, the register that it changes (-1: none), and how much lower it puts the stack pointer.

    copies: the register whose value the other one gets; -1: none.
    """

    size: int
    changes: int
    stack: int = 0
    copies: int = -1


def place(code: bytes, arguments: frozenset[int], *, returns: bool, movable: int = -1) -> Place:
    """
    Return where a probe on a function costs least.

    Args:
        code: the function's first bytes.
        arguments: registers that the probe reads.
        returns: the same place is for a probe of the return, which needs the stack pointer as at the entry.
        movable: one more, which may be in another register by then; -1: none.
    """
    at = stack = 0
    holders = {movable}
    while at < len(code):
        if _is_emulated(code[at:]):
            return Place(at, stack, fast=True, moved=next(each for each in (movable, *_CAN_BE_READ) if each in holders))
        instruction = _skipped(code[at:])
        if not instruction or instruction.changes in arguments or (returns and instruction.stack):
            break
        holders = _moved(holders, instruction)
        if not holders & {movable, *_CAN_BE_READ}:
            break
        at += instruction.size
        stack += instruction.stack
    return Place(0, 0, fast=False, moved=movable)


def _moved(holders: set[int], instruction: _Instruction) -> set[int]:
    """Return the registers that have a value, behind an instruction."""
    copy = {instruction.changes} if instruction.copies in holders else set()
    return holders - {instruction.changes} | copy


def _is_emulated(code: bytes) -> bool:
    first, second = code[0], code[1] if len(code) > 1 else 0
    if first == 0x41:  # of r8 to r15
        return 0x50 <= second <= 0x57
    near_jump = first == 0x0F and 0x80 <= second <= 0x8F
    return 0x50 <= first <= 0x57 or 0x70 <= first <= 0x7F or first in (0x90, 0xE8, 0xE9, 0xEB) or near_jump


def _skipped(code: bytes) -> _Instruction | None:
    """Return what the first instruction does, None if that is not known."""
    if code.startswith(_ENDBR64):
        return _Instruction(len(_ENDBR64), -1)
    rex = code[0] if 0x40 <= code[0] <= 0x4F else 0
    at = 1 if rex else 0
    if len(code) < at + 2:
        return None
    opcode = code[at]
    if 0xB8 <= opcode <= 0xBF:  # mov of a constant
        return _Instruction(at + (9 if rex & 8 else 5), (opcode & 7) + 8 * (rex & 1))
    return _with_operand(code[at + 1 :], opcode, rex, at + 1)


def _with_operand(code: bytes, opcode: int, rex: int, before: int) -> _Instruction | None:
    length, operand = _operand(code, rex)
    register, size = (code[0] >> 3 & 7) + (rex & 4) * 2, before + length
    if opcode in _TO_REGISTER:
        return _safe(size, register, operand if opcode == _LOAD and rex & 8 else -1)
    if opcode in _TO_OPERAND:
        return _safe(size, operand, register if opcode == _STORE and rex & 8 else -1)
    if opcode in _TO_NOTHING:
        return _Instruction(size, -1)
    if opcode in _WITH_BYTE or opcode in _WITH_WORD:
        constant = code[length : length + (1 if opcode in _WITH_BYTE else 4)]
        size += 1 if opcode in _WITH_BYTE else 4
        what = code[0] >> 3 & 7
        if operand == SP and opcode != 0x80 and what == 5 and rex & 8:  # sub: room on the stack
            return _Instruction(size, -1, int.from_bytes(constant, "little", signed=True))
        return _Instruction(size, -1) if what == _COMPARE else _safe(size, operand)
    return None


def _safe(size: int, changes: int, copies: int = -1) -> _Instruction | None:
    """Return an instruction, unless it puts the stack pointer who knows where."""
    return None if changes == SP else _Instruction(size, changes, 0, copies)


def _operand(code: bytes, rex: int) -> tuple[int, int]:
    """Return the length of a ModRM operand, and the register that it is; -1: it is memory."""
    mode, low = code[0] >> 6, code[0] & 7
    if mode == 3:
        return 1, low + 8 * (rex & 1)
    length = 1
    if low == 4:  # a SIB byte follows
        length += 1
        low = code[1] & 7 if len(code) > 1 else 0
        if mode == 0 and low == 5:
            return length + 4, -1
    elif mode == 0 and low == 5:  # relative to the instruction pointer
        return length + 4, -1
    return length + (0, 1, 4)[mode], -1
