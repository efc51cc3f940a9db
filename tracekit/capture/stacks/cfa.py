"""
Programs of call frame instructions, run into rows of bpf/abi/stacks.h.

Only what leads to the caller is followed: the canonical frame address (CFA), and where the return address and rbp
were saved. The program belongs to a file that nobody trusts: it may be cut anywhere, and a state that a row cannot
say is UNKNOWN.

Source:
    DWARF 5 §6.4.2, LSB 5 §10.6.1, and the numbering of registers of the x86-64 psABI.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tracekit.capture.elf import NotElfError
from tracekit.capture.stacks.layout import UNWIND_DEREF as DEREF
from tracekit.capture.stacks.layout import UNWIND_END as END
from tracekit.capture.stacks.layout import UNWIND_PLT as PLT
from tracekit.capture.stacks.layout import UNWIND_RBP as RBP
from tracekit.capture.stacks.layout import UNWIND_RBP_LOST as LOST
from tracekit.capture.stacks.layout import UNWIND_RSP as RSP
from tracekit.capture.stacks.layout import UNWIND_UNKNOWN as UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

ADDRESS = 0xFFFFFFFF
"""The bits of a row that hold its address."""

_REGISTER_RBP, _REGISTER_RSP, _RETURN = 6, 7, 16
_PLT = frozenset(bytes((0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x30 + first, 0x2A, 0x33, 0x24, 0x22)) for first in (10, 11))
"""breg7 8, breg16 0, lit15, and, lit11 (lit10: with endbr64, no instruction begins there), ge, lit3, shl, plus."""
_FITS = ~0x3FFF8
"""Bits that no offset has which a row can say: 16 bits, signed, in units of 8."""
_MOST_STATES = 64
_DELTA = {2: struct.Struct("<B"), 3: struct.Struct("<H"), 4: struct.Struct("<I")}


class State(NamedTuple):
    """
    Where a frame is.

    Attributes:
        kind, offset: of the CFA.
        rbp: where it was saved: units of 8 below the CFA; 0: it still has its value; LOST (DEREF: where it points).
        end: 0, or the kind (SIGNAL, END, UNKNOWN) that the return address brings about.
    """

    kind: int = UNKNOWN
    offset: int = 0
    rbp: int = 0
    end: int = 0


@dataclass
class Reader:
    """Numbers of variable length in *content*, from *at* on."""

    content: bytes
    at: int

    def unsigned(self) -> int:
        """Return the next ULEB128. Raises IndexError: it is cut; NotElfError: it has more than 64 bits."""
        value = shift = 0
        while True:
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise NotElfError("a number of its unwinding tables never ends")

    def signed(self) -> int:
        """Return the next SLEB128. Raises as unsigned()."""
        start = self.at
        value = self.unsigned()
        return value - (1 << 7 * (self.at - start)) if self.content[self.at - 1] & 0x40 else value

    def block(self) -> bytes:
        """Return the next bytes, whose number stands before them."""
        size = self.unsigned()
        self.at += size
        return self.content[self.at - size : self.at]


# One loop, as a call for each instruction would double the time that a table takes.
def run(program: bytes, initial: State | None, state: State) -> tuple[list[int], State]:  # noqa: C901, PLR0912
    """
    Run *program* from *state* on, with *initial* the state to restore registers from.

    Returns:
        Rows by their address (from the beginning of the function), without those that repeat the one before,
        and the state at the end.

    Raises:
        IndexError, struct.error: the program is cut.
        NotElfError: a number in it never ends, it remembers too many states, or goes too far.
    """
    kind, offset, rbp, end = state
    rows: list[int] = []
    remembered: list[State] = []
    row, last, address, at, size = 0, -1, 0, 0, len(program)
    while at < size:
        op = program[at]
        at += 1
        if op >> 6 == 1 or 1 < op < 5:  # the address advances
            row = _special(kind, offset, rbp, end) if end or offset & _FITS else kind | offset | rbp << 19
            if row != last:
                rows.append(row << 32 | address)
                last = row
            if op >> 6 == 1:
                address += op & 0x3F
            else:
                address += _DELTA[op].unpack_from(program, at)[0]
                at += _DELTA[op].size
        elif op == 0x0E and program[at] < 0x80:  # def_cfa_offset
            offset = program[at]
            at += 1
        elif op >> 6 == 2 and program[at] < 0x80:  # offset
            if op == 0x80 + _REGISTER_RBP:
                rbp = program[at]
            elif op == 0x80 + _RETURN:
                end = 0 if program[at] == 1 else UNKNOWN
            at += 1
        elif op == 0x0A:  # remember_state
            if len(remembered) == _MOST_STATES:
                raise NotElfError("its unwinding tables remember too much")
            remembered.append(State(kind, offset, rbp, end))
        elif op == 0x0B:  # restore_state
            kind, offset, rbp, end = remembered.pop()
        elif op:
            reader = Reader(program, at)
            changed = _rare(op, reader, State(kind, offset, rbp, end), initial)
            if changed is None:
                kind, offset, rbp, end = State(end=UNKNOWN)
                break
            kind, offset, rbp, end = changed
            at = reader.at
    row = _special(kind, offset, rbp, end) if end or offset & _FITS else kind | offset | rbp << 19
    if row != last:
        rows.append(row << 32 | address)
    if address > ADDRESS:
        raise NotElfError("its unwinding tables are of code that is too far away")
    return rows, State(kind, offset, rbp, end)


def _special(kind: int, offset: int, rbp: int, end: int) -> int:
    """Return a row, without its address, for states that are not common."""
    if end:
        return end
    if kind == DEREF and not offset & 7 and -(1 << 18) <= offset < 1 << 18:
        return DEREF | offset & 0x7FFF8 | rbp << 19
    return UNKNOWN


def _rare(op: int, reader: Reader, state: State, initial: State | None) -> State | None:
    """Return the state behind an instruction with its operands; None: it is not known."""
    if op >> 6 == 2:
        return _saved(op & 0x3F, reader.unsigned(), state)
    if op >> 6 == 3:
        return _restored(op & 0x3F, state, initial)
    if op in _CFA:
        return _CFA[op](reader, state)
    if op in _REGISTERS:
        return _register(op, reader, state, initial)
    if op == 0x2E:  # GNU_args_size
        reader.unsigned()
        return state
    return None


def _based(register: int, offset: int, state: State) -> State:
    """Return *state* with the CFA *offset* bytes above a register."""
    kind = {_REGISTER_RSP: RSP, _REGISTER_RBP: RBP}.get(register, UNKNOWN)
    return state._replace(kind=kind, offset=offset if offset >= 0 else -1)  # -1: no row says that


def _expressed(reader: Reader, state: State) -> State:
    expression = reader.block()
    if expression in _PLT:
        return state._replace(kind=PLT, offset=0)
    if expression[:1] == b"\x76" and expression[-1:] == b"\x06":  # breg6, ..., deref
        operand = Reader(expression, 1)
        offset = operand.signed()
        if operand.at == len(expression) - 1:
            return state._replace(kind=DEREF, offset=offset)
    return state._replace(kind=UNKNOWN, offset=0)


_CFA: dict[int, Callable[[Reader, State], State]] = {
    0x0C: lambda reader, state: _based(reader.unsigned(), reader.unsigned(), state),
    0x0D: lambda reader, state: _based(reader.unsigned(), state.offset, state),
    0x0E: lambda reader, state: state._replace(offset=reader.unsigned()),
    0x0F: _expressed,
    0x12: lambda reader, state: _based(reader.unsigned(), reader.signed() * -8, state),
    0x13: lambda reader, state: state._replace(offset=reader.signed() * -8),
}
"""Instructions that define the CFA: def_cfa, _register, _offset, _expression, _sf, _offset_sf."""


def _saved(register: int, units: int, state: State) -> State:
    """Return *state* with a register saved *units* of 8 bytes below the CFA."""
    if register == _REGISTER_RBP:
        return state._replace(rbp=units if 0 < units < LOST else LOST)
    if register == _RETURN:
        return state._replace(end=0 if units == 1 else UNKNOWN)
    return state


def _restored(register: int, state: State, initial: State | None) -> State:
    if initial and register == _REGISTER_RBP:
        return state._replace(rbp=initial.rbp)
    if initial and register == _RETURN:
        return state._replace(end=initial.end)
    return state


def _register(op: int, reader: Reader, state: State, initial: State | None) -> State:
    """Return the state behind an instruction about one register."""
    register = reader.unsigned()
    if op == _RESTORE:
        return _restored(register, state, initial)
    if op in _SAVED:
        return _saved(register, _SAVED[op](reader), state)
    if op in _OPERAND:
        _OPERAND[op](reader)
    if register == _REGISTER_RBP:
        return state._replace(rbp=0 if op == _SAME else LOST)
    if register == _RETURN:
        return state._replace(end=END if op == _UNDEFINED else UNKNOWN)
    return state._replace(end=UNKNOWN) if register == _REGISTER_RSP and op != _SAME else state


_RESTORE, _UNDEFINED, _SAME = 0x06, 0x07, 0x08
_SAVED: dict[int, Callable[[Reader], int]] = {
    0x05: Reader.unsigned,
    0x11: Reader.signed,
    0x2F: lambda reader: -reader.unsigned(),
}
"""offset_extended, offset_extended_sf, GNU_negative_offset_extended: how many units below the CFA."""
_OPERAND: dict[int, Callable[[Reader], object]] = {
    0x09: Reader.unsigned,
    0x10: Reader.block,
    0x14: Reader.unsigned,
    0x15: Reader.signed,
    0x16: Reader.block,
}
"""register, expression, val_offset, val_offset_sf, val_expression: passed over."""
_REGISTERS = {_RESTORE, _UNDEFINED, _SAME, *_SAVED, *_OPERAND}
