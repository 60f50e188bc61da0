"""The web faces and the bot: webhooks, what is stored, the app. Stands above `agent`, beside `evals`."""
