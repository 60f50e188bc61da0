"""Audits: what of the future or of the solution an agent could have seen, and whether it looked for it.

`audit_checkout` looks at a checkout in a sandbox before an agent gets one like it; `audit_trajectory` reads what an
agent did; `gold_free` is all that an agent's process may be told of an instance.
"""

from evals.leaks.checkout import Bounds, audit_checkout
from evals.leaks.gold import find_gold, gold_free, gold_lines
from evals.leaks.leak import AuditFailed, Leak, LeakKind
from evals.leaks.trajectory import audit_trajectory

__all__ = [
    "AuditFailed",
    "Bounds",
    "Leak",
    "LeakKind",
    "audit_checkout",
    "audit_trajectory",
    "find_gold",
    "gold_free",
    "gold_lines",
]
