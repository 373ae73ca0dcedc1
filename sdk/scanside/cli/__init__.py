"""The ``scanside`` command."""
