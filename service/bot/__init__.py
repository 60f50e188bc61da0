"""The bot: a request becomes a run, and the run a pull request or a comment that says why not.

Left out: how requests come in (`service.webhooks`), and how jobs are kept (`agent.jobs`).
"""
