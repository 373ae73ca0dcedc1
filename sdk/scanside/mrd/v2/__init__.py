"""MRD version 2: streams of the yardl protocol ``Mrd``, as Pingvin, Tyger and mrd-python write them on pipes.

A stream brings the schema that it was written with, as JSON. It is read by that schema, so one codec reads the
versions 2.1 and 2.2, and the next one too as long as the fields that a reconstruction needs keep their names. What
comes out is what the ISMRMRD session gives (`scanside.mrd.messages`): the same pipeline runs on both.

Nothing here needs more than NumPy.
"""
