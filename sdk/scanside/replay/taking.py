"""What comes back from a replay, into its result and into a file."""

from __future__ import annotations

from contextlib import ExitStack

from scanside.convert import items_of, message_of
from scanside.items import Image
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.messages import Data, ImageArray, ImageMessage
from scanside.replay.result import ReplayResult
from scanside.scan import Scan

__all__ = [
    "Taking",
    "take_images",
]


class Taking:
    """Takes the images that come, into the result and into a file; other items are of no interest here."""

    def __init__(self, result: ReplayResult, stack: ExitStack, header_xml: bytes) -> None:
        self.result = result
        self._writer: Hdf5Writer | None = None
        if result.output is not None:
            self._writer = stack.enter_context(Hdf5Writer(result.output, header_xml))

    def image(self, image: Image) -> None:
        """Take an image."""
        self.result.images.append(image)
        self.result.n_sent.append(self.result.n_readouts)
        if self._writer is not None:
            message = message_of(image)
            assert isinstance(message, ImageMessage)
            self._writer.write(message)


def take_images(message: Data, scan: Scan, take: Taking) -> None:
    """What a host would see: images, after they have been messages."""
    if isinstance(message, (ImageMessage, ImageArray)):
        for image in items_of(message, scan):
            assert isinstance(image, Image)
            take.image(image)
