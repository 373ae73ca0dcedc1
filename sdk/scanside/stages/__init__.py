"""The reconstruction stages that come with Scanside, one per module."""
