"""Tables in anybody's spelling: names of columns, units, notations, wide shapes."""
