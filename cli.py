"""`python cli.py` is the installed command `eesearch`."""

from eesearch.cli import main

if __name__ == "__main__":
    main()
