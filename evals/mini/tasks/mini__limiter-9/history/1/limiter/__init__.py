"""A token bucket."""

from limiter.bucket import Bucket

__all__ = ["Bucket"]
