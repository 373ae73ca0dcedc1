"""Tests for other people's stages and transports: subclass them, or call them."""
