"""The MRD (ISMRMRD) formats: wire messages, sessions, files, headers, flags, geometry and meta attributes."""
