"""One file or folder per result format."""
