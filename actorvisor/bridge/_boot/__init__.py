"""What the fork server imports first; this folder is on its path until then."""
