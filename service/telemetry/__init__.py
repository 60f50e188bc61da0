"""What an operator sees of the service: logs, metrics and traces. None of them holds a secret or somebody's text.

docs/observability.md says what there is, docs/decisions/0038-telemetry.md why. Importing this package is cheap.
"""
