"""What actorvisor costs, as ratios to what trio itself costs: `python -m benchmarks --help`."""
