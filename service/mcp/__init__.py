"""The agent as an MCP server for editors: `fix`, `status`, `patch` and `cancel` of a service's runs, over stdio.

It runs where the editor does and needs nothing there but the service's address and a token. Left out: working on runs
(the service does), and streamable HTTP (an editor starts its own).
"""
