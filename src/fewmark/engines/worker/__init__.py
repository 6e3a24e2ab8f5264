"""The worker program: its protocol, batch mode, and the archive that carries it elsewhere."""
