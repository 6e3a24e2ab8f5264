"""How a case is measured: warm-up, repeats until stable, outliers."""
