"""A synthetic crawl like LAION-400M: the CSV files for `bench/dedup.py`, and their known counts.

Row r of the crawl is a function of r and the seed. So files are written in parallel, and a smaller crawl is the first
files of a larger one. The rows follow LAION-400M: urls of about 95 characters, captions of about 60 (one in
twelve is quoted because of a quote, a separator or a newline; one in ten is not ASCII), similarities of 16 digits.
One row in twelve repeats the url and caption of another with other numbers; one in a hundred is malformed; the header
differs from file to file, and one file in 97 has no `similarity`.
"""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SEED = 20_210_820
DUPLICATES_PER_MILLE = 84
HEADERS = (
    ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity"),
    ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity"),
    ("SAMPLE_ID", "URL", "TEXT", "LICENSE", "NSFW", "similarity", "WIDTH", "HEIGHT"),
    ("URL", "TEXT", "SAMPLE_ID", "HEIGHT", "WIDTH", "exif", "LICENSE", "NSFW", "similarity"),
    ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "NSFW", "similarity"),
)
WITHOUT_SIMILARITY = HEADERS[0][:-1]
FILE_WITHOUT_SIMILARITY = 97
"""One file in 97 has no similarities, like the first files of the crawl. The recipe and we leave it out."""

SOUND, MANY_TOKENS, FEW_TOKENS, BAD_UTF8, NO_URL, OPEN_QUOTE = range(6)
REASONS = {
    MANY_TOKENS: "wrong_token_count",
    FEW_TOKENS: "wrong_token_count",
    BAD_UTF8: "invalid_utf8",
    NO_URL: "url_missing",
    OPEN_QUOTE: "unclosed_quote",
}
_FAULT_EDGES = np.array([3, 6, 8, 9, 10])
"""Per mille: fault k + 1 applies to draws below edge k."""


def make_crawl(folder: Path, rows: int, rows_a_file: int, log: Callable[[str], None]) -> list[Path]:
    """Write the missing files of the crawl on all cores. Returns the paths of all files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(-(-rows // rows_a_file))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        paths = []
        for path in pool.map(partial(_write, folder, rows, rows_a_file), numbers, chunksize=8):
            paths.append(path)
            if len(paths) % max(len(numbers) // 10, 1) == 0:
                log(f"crawl: {len(paths):,} of {len(numbers):,} files")
    return paths


def known_counts(rows: int, rows_a_file: int) -> dict[str, int]:
    """Return the correct counts of the first `rows` rows: `records`, `unique`, `duplicate` and each reason."""
    counts: Counter[str] = Counter(records=rows)
    seen = np.zeros(rows, bool)
    for number in range(-(-rows // rows_a_file)):
        row = _rows(rows, rows_a_file, number)
        if _is_left_out(number):
            counts["file_without_similarity"] += len(row)
            continue
        faults = _faults(row)
        for fault, reason in REASONS.items():
            counts[reason] += int((faults == fault).sum())
        sound = _identity(row)[faults == SOUND]
        seen[sound] = True
        counts["duplicate"] += len(sound)
    counts["unique"] = int(seen.sum())
    counts["duplicate"] -= counts["unique"]
    return dict(counts)


def _rows(rows: int, rows_a_file: int, number: int) -> np.ndarray:
    return np.arange(number * rows_a_file, min((number + 1) * rows_a_file, rows), dtype=np.uint64)


def _is_left_out(number: int) -> bool:
    return number % FILE_WITHOUT_SIMILARITY == FILE_WITHOUT_SIMILARITY // 2


def _draw(row: np.ndarray, stream: int) -> np.ndarray:
    """Return uniform (n,) uint64: splitmix64 (Steele, Lea, Flood 2014) of row and stream."""
    mixed = row + np.uint64((SEED + 0x9E3779B97F4A7C15 * (stream + 1)) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _identity(row: np.ndarray) -> np.ndarray:
    """Return (n,) uint64: the number of a row's url and caption, its own or that of an earlier row."""
    repeats = _draw(row, 0) % np.uint64(1000) < DUPLICATES_PER_MILLE
    return np.where(repeats, _draw(row, 1) % np.maximum(row, np.uint64(1)), row)


def _faults(row: np.ndarray) -> np.ndarray:
    drawn = _draw(row, 2) % np.uint64(1000)
    found = np.searchsorted(_FAULT_EDGES, drawn, side="right") + 1
    return np.where(found <= len(_FAULT_EDGES), found, SOUND)


def _write(folder: Path, rows: int, rows_a_file: int, number: int) -> Path:
    path = folder / f"{number // 1000:03d}" / f"{number:06d}.csv"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    header = WITHOUT_SIMILARITY if _is_left_out(number) else HEADERS[number % len(HEADERS)]
    lines = _lines(_rows(rows, rows_a_file, number), header)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write("|".join(header).encode() + b"\n")
        file.write(lines)
    return temporary.rename(path)


def _lines(row: np.ndarray, header: tuple[str, ...]) -> bytes:
    names, faults = _identity(row), _faults(row)
    columns = {
        "SAMPLE_ID": pa.array(_draw(row, 3) >> np.uint64(22)).cast(pa.string()),
        "URL": _pick(faults == NO_URL, pa.scalar(""), _urls(names)),
        "TEXT": _captions(names),
        "HEIGHT": pa.array(_draw(row, 4) % np.uint64(1800) + np.uint64(150)).cast(pa.string()),
        "WIDTH": pa.array(_draw(row, 5) % np.uint64(1800) + np.uint64(150)).cast(pa.string()),
        "LICENSE": _chosen(["?"] * 9 + [""], row, 6),
        "NSFW": _chosen(["UNLIKELY"] * 93 + ["UNSURE"] * 5 + ["NSFW"] * 2, row, 7),
        "similarity": pa.array(0.3 + (_draw(row, 8) >> np.uint64(11)) * 2.0**-53 * 0.12).cast(pa.string()),
        "exif": _chosen(["", "{}"], row, 9),
    }
    columns["TEXT"] = _pick(faults == MANY_TOKENS, "a caption | with a bare separator", columns["TEXT"])
    columns["TEXT"] = _pick(faults == OPEN_QUOTE, '"a quote that never closes', columns["TEXT"])
    columns["TEXT"] = _pick(faults == BAD_UTF8, "caf\x00 in another encoding", columns["TEXT"])
    joined = pc.binary_join_element_wise(*[columns[name] for name in header], "|")
    joined = _pick(faults == FEW_TOKENS, "12|http://a.test/cut-off", joined)
    text = pc.binary_join_element_wise(joined, "", "\n")
    offsets = np.frombuffer(text.buffers()[1], np.int32)
    # Arrow's strings are UTF-8, so an invalid byte replaces a NUL afterwards.
    return text.buffers()[2].to_pybytes()[: int(offsets[-1])].replace(b"\x00", b"\xe9")


def _urls(names: np.ndarray) -> pa.Array:
    query = _chosen([""] * 4 + ["?w=640&h=480&quality=85", "?v=1597823"], names, 14)
    return pc.binary_join_element_wise(
        _chosen(_HOSTS, names, 10), _chosen(_FOLDERS, names, 11), pa.array(names).cast(pa.string()),
        _chosen(_PHRASES["url"], names, 13), query, "",
    )  # fmt: skip


def _captions(names: np.ndarray) -> pa.Array:
    """Quote captions like pandas: those with a quote, separator or newline get quotes, inner quotes are doubled."""
    tail = pc.binary_join_element_wise(
        _chosen(_PHRASES["caption"], names, 16), " no. ", pa.array(names % np.uint64(100_000)).cast(pa.string()), ""
    )
    plain = pc.binary_join_element_wise(_chosen(_PHRASES["caption"], names, 15), tail, " ")
    quoted = pc.binary_join_element_wise('"', tail, _chosen(_PHRASES["quoted"], names, 17), '"', "")
    return _pick(_draw(names, 18) % np.uint64(12) == 0, quoted, plain)


def _chosen(values: list[str], key: np.ndarray, stream: int) -> pa.Array:
    return pa.array(values).take(pa.array(_draw(key, stream) % np.uint64(len(values))))


def _pick(mask: np.ndarray, yes: object, no: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(mask), yes, no)


def _vocabulary() -> tuple[list[str], list[str], dict[str, list[str]]]:
    draw = np.random.default_rng(SEED)
    letters = np.array(list("aeiouaeiourstlnmdpcbghkvw"))
    words = ["".join(draw.choice(letters, draw.integers(2, 10))) for _ in range(3_000)]
    foreign = ["für", "café", "фото", "写真", "año", "größe", "사진", "naïve"]

    def phrase(least: int, most: int) -> str:
        return " ".join(draw.choice(words, draw.integers(least, most)))

    captions = [phrase(3, 7) for _ in range(18_000)]
    captions += [f"{phrase(1, 3)} {draw.choice(foreign)} {phrase(1, 3)}" for _ in range(1_000)]
    quoted = [' ""' + phrase(1, 4) + '"" ' + phrase(1, 3) for _ in range(400)]
    quoted += [" | " + phrase(1, 4) for _ in range(550)] + ["\n" + phrase(1, 4) for _ in range(50)]
    hosts = [f"https://{draw.choice(['www', 'cdn', 'i0', 'images'])}.{word}.{tld}/" for word in words
             for tld in ("com", "net", "co.uk", "de", "test")]  # fmt: skip
    folders = [f"wp-content/uploads/{2005 + n % 16}/{1 + n % 12:02d}/{words[n % len(words)]}-" for n in range(5_000)]
    urls = [
        f"-{phrase(1, 5).replace(' ', '-')}{end}" for end in (".jpg", ".jpeg", ".png", ".jpg") for _ in range(4_000)
    ]
    return hosts, folders, {"caption": captions, "quoted": quoted, "url": urls}


_HOSTS, _FOLDERS, _PHRASES = _vocabulary()
