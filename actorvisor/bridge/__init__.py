"""What crosses a process boundary: the wire, the link's two ends, worker processes."""
