"""`python -m fewmark` is `fewmark`."""

from fewmark.cli import main

main()
