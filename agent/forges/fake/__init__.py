"""A stand-in for GitHub on the loopback: its API, its webhooks, and git over HTTP, for tests and for trying the bot.

`server.fake_forge(folder)` runs it in the caller's event loop; `python -m agent.forges.fake` as a program. It needs
the extra `service`.
"""
