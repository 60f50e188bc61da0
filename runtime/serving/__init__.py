"""From hardware to a running model server: what is there, what fits, the command, the process."""
