"""`/api/v1`: what programs ask of the service. JSON, an OpenAPI description, tokens with scopes.

Left out: the pages for people (`service.dashboard`).
"""

from service.api.problems import install
from service.api.routes import router

__all__ = ["install", "router"]
