"""An environment for each engine: its recipe, its folder, how it is installed."""
