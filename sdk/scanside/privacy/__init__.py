"""What of a scan's texts may name a person, and how to take it out while all else stays byte for byte.

::

    cleaned = without_identity(xml)  # a header
    cleaned = clean_settings(text, vocabulary)  # a configuration, or a host's parameters
    cleaned = clean_attributes(xml, vocabulary)  # an image's meta attributes

Nothing changes its length. Where texts may hold anything, only numbers and words that are known (`Vocabulary`) stay:
no list of forbidden words would be complete.

Samples, counters and times stay as well: a head may be recognised from its reconstructed surface. A recording without
names is still the data of a person.
"""

from __future__ import annotations

from scanside.privacy.edits import masked
from scanside.privacy.header import IDENTIFYING, KEPT, identifying_elements, without_identity
from scanside.privacy.texts import clean_attributes, clean_message, clean_name, clean_settings
from scanside.privacy.vocabulary import Vocabulary

__all__ = [
    "IDENTIFYING",
    "KEPT",
    "Vocabulary",
    "clean_attributes",
    "clean_message",
    "clean_name",
    "clean_settings",
    "identifying_elements",
    "masked",
    "without_identity",
]
