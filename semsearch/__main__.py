"""`python -m semsearch` is `semsearch`."""

from semsearch.cli import main

if __name__ == "__main__":  # a process that searches for a server reads it, too
    main()
