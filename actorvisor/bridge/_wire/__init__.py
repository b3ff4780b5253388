"""The wire, sans-IO: bytes in, frames out; nothing here opens, waits or reads a clock."""
