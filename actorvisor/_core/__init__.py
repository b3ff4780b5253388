"""The pure core: every decision, and nothing that waits, draws, logs or looks at a clock."""
