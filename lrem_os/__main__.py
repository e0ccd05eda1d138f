"""``python -m lrem_os`` runs the command line."""

from lrem_os.cli import main

if __name__ == "__main__":
    main()
