"""What the service remembers: which deliveries came, what was asked, and what came of it. SQLite or Postgres.

Left out: jobs (`agent.jobs`) and runs (files). docs/decisions/0034-webhooks.md says how it is written to.
"""

from service.store.engine import StoreError, StoreUnavailable
from service.store.migrations import SchemaTooNew
from service.store.model import ACTIVE, Outcome, Received, Request, State, Thread
from service.store.recorder import Recorder
from service.store.store import Store

__all__ = [
    "ACTIVE",
    "Outcome",
    "Received",
    "Recorder",
    "Request",
    "SchemaTooNew",
    "State",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "Thread",
]
