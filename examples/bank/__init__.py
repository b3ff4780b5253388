"""A bank whose accounts are services, and what it takes that no money disappears.

`accounts` is as it was written first, `repaired` what was made of it, and `audit` the one thing that
must be true of both. docs/fault-injection.md tells the story.
"""
