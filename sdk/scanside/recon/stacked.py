"""Two sets of coil maps as one, for columns of an image: the rows that the second set sees come below the first's."""

from __future__ import annotations

import torch

from scanside.recon.columns import point_spread

__all__ = ["StackedMaps", "rows_seen"]


class StackedMaps:
    """Maps of one slice, of one set or two.

    To `scanside.recon.columns.ColumnSystem` both images are one with more rows, of which some lie at the same place:
    its normal operator is that of the maps below each other, with the point spread between these places. What the
    second set does not see costs nothing.

    Args:
        first: ``(coil, k1, k0)`` complex; of no rows, for the second set alone.
        second: ``(coil, k1, k0)``; None where there is one set.

    Attributes:
        first: the first set.
        maps: ``(coil, k1 + rows, k0)``.
    """

    def __init__(self, first: torch.Tensor, second: torch.Tensor | None) -> None:
        self.first, self._n1 = first, first.shape[-2] if second is None else second.shape[-2]
        self._rows: torch.Tensor | None = None
        self.maps = first
        if second is not None:
            self._rows = rows_seen(second)
            self.maps = torch.cat((first, second.index_select(-2, self._rows)), -2)

    @classmethod
    def of(cls, maps: torch.Tensor, second: torch.Tensor | None) -> StackedMaps:
        """Those of maps ``(coil, 1, k1, k0)``, as k-space has them."""
        return cls(maps[:, 0], None if second is None else second[:, 0])

    def lines(self, mask: torch.Tensor) -> torch.Tensor:
        """What a system of these maps takes for a mask ``(k1,)``: itself, or the point spread between all rows."""
        if self._rows is None:
            return mask
        rows = torch.cat((torch.arange(self.first.shape[-2], device=mask.device), self._rows))
        return point_spread(mask)[rows[:, None], rows]

    def stacked(self, images: torch.Tensor) -> torch.Tensor:
        """From ``(k1, k0)``, or ``(2, k1, k0)`` of two sets, to what a system of these maps solves for."""
        if self._rows is None:
            return images
        first = images[0, : self.first.shape[-2]]
        return torch.cat((first, images[1].index_select(-2, self._rows)), -2)

    def apart(self, rows: torch.Tensor) -> torch.Tensor:
        """What `stacked` was made of, zero where the second set sees nothing."""
        if self._rows is None:
            return rows
        images = rows.new_zeros(2, self._n1, rows.shape[-1])
        n_first = self.first.shape[-2]
        images[0, :n_first] = rows[:n_first]
        images[1].index_copy_(-2, self._rows, rows[n_first:])
        return images


def rows_seen(maps: torch.Tensor) -> torch.Tensor:
    """The rows of maps ``(*, k1, k0)`` that some coil sees somewhere."""
    return (maps != 0).flatten(0, -3).any(0).any(-1).nonzero()[:, 0]
