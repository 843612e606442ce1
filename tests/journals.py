"""Changes to the journals of a run folder, for the tests of what reads them."""

from pathlib import Path

from written_run import write_journal

from setn_lab.runs.journal import read_journal


def change(folder: Path, name: str, key: str, value: object, place: int = 0) -> None:
    """Set a field of one record of a journal, or remove it where the value is KeyError."""
    records = read_journal(folder / name)
    if value is KeyError:
        del records[place][key]
    else:
        records[place][key] = value
    write_journal(folder / name, records)
