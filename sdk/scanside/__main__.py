"""``python -m scanside`` is the command ``scanside``."""

from scanside.cli import main

if __name__ == "__main__":
    main()
