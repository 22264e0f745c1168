"""The examples as LoraHub's get_loss receives them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload


class ExampleDataset:
    """Rows of equal columns: a number gives a row, a slice or the name of a column gives lists.

    A part of the interface of `datasets.Dataset`, which the released code passes. A DataLoader of torch with
    transformers' default_data_collator makes batches of it. The columns are input, output, input_ids,
    attention_mask and labels; the rows of one column have one length, and labels are -100 where no token
    counts.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Take columns of equal length."""
        self._columns = {name: list(column) for name, column in columns.items()}

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self._columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self._columns.values())))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows."""
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> dict[str, list[Any]]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    def __getitem__(self, key: str | slice | int) -> list[Any] | dict[str, Any]:
        """Return a column by its name, columns of some rows by a slice, or one row by its number."""
        if isinstance(key, str):
            return self._columns[key]
        return {name: column[key] for name, column in self._columns.items()}
