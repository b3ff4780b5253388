"""One thing at a time, on virtual time: the gate, and what runs on it."""
