"""python -m mcrace: the command line."""

from mcrace.cli import main

if __name__ == "__main__":
    main()
