"""Trains the networks that Scanside's engines are built from; the run time never imports it."""
