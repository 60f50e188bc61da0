"""Ticket numbers as short codes, and back."""

from ticket.codes import MAX_NUMBER, BadCode, decode, encode

__all__ = ["MAX_NUMBER", "BadCode", "decode", "encode"]
