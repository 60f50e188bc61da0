"""A token bucket."""

from limiter.bucket import Bucket
from limiter.decorator import limited

__all__ = ["Bucket", "limited"]
