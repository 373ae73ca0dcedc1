"""What happens beside the steps of a training: averaging, measures, files, pictures, weights, the progress bar."""

from scanside_training.callbacks.averaging import MovingAverage
from scanside_training.callbacks.measures import ValidationMeasures
from scanside_training.callbacks.pictures import ValidationPictures
from scanside_training.callbacks.progress import ProgressLine
from scanside_training.callbacks.run_folder import RunFolder
from scanside_training.callbacks.weight_changes import WeightChanges

__all__ = [
    "MovingAverage",
    "ProgressLine",
    "RunFolder",
    "ValidationMeasures",
    "ValidationPictures",
    "WeightChanges",
]
