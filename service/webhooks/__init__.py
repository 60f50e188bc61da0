"""Webhooks: checked, read, and stored before they are answered. docs/decisions/0034-webhooks.md says why so.

Left out: who may ask, and doing what is asked (`service.bot`).
"""

from service.webhooks.commands import COMMANDS, Command, command
from service.webhooks.model import (
    ASKS_FOR_WORK,
    ENDS_WORK,
    Delivery,
    Myself,
    ObjectKey,
    ObjectKind,
    Refused,
    Wish,
    WishKind,
)
from service.webhooks.reading import read
from service.webhooks.signature import sign, verify

__all__ = [
    "ASKS_FOR_WORK",
    "COMMANDS",
    "ENDS_WORK",
    "Command",
    "Delivery",
    "Myself",
    "ObjectKey",
    "ObjectKind",
    "Refused",
    "Wish",
    "WishKind",
    "command",
    "read",
    "sign",
    "verify",
]
