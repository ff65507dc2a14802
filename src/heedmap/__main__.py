"""``python -m heedmap`` is the command line."""

from heedmap.cli.main import main

if __name__ == "__main__":
    main()
