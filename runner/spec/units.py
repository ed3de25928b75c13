"""Durations, sizes and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50, "kB": 10**3}

LONGEST = 100 * 365 * _SECONDS["d"]

_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(B|[kKMGTP]B|[KMGTP]iB)")
_AGO = re.compile(r"(\S+)\s+ago")
_LOCAL = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,6})?)?)?")
_ZONED = re.compile(rf"({_LOCAL.pattern})\s?(Z|z|[+-]\d\d:?\d\d)")


def parse_duration(text: str) -> float:
    """`36h`, `1h30m`, `500ms` in seconds. Raises ValueError with the remedy."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration. Write 90s, 5m, 1h30m, 30d or 2w.")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > LONGEST:
        raise ValueError(f"{text} is longer than 100 years. Write a shorter duration.")
    return round(seconds, 6)


def format_duration(seconds: float) -> str:
    """Seconds in the largest units that say it: `1d12h`, `1.5s`; `parse_duration` reads it."""
    left = round(seconds, 3)
    if left < 60:
        return f"{left:g}s"
    text = ""
    whole = round(left)
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, int(_SECONDS[unit]))
        text += f"{count}{unit}" if count else ""
    return text


def parse_size(text: str) -> int:
    """`10GiB`, `500MB` in bytes. Raises ValueError with the remedy."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size. Write 500MB, 10GiB or 1TiB.")
    whole, _, fraction = match[1].partition(".")
    parts = int(whole + fraction) * _BYTES[match[2]]
    return int(parts // 10 ** len(fraction))


def format_size(count: int) -> str:
    """Bytes in the unit a person reads: `1.5GiB`; exact below 1 KiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if round(size, 1) < 1024:
            return f"{size:.1f}".removesuffix(".0") + unit
        size /= 1024
    return f"{size:.1f}".removesuffix(".0") + "PiB"


def parse_time(text: str, timezone: str, now: datetime) -> datetime:
    """An instant in UTC: RFC 3339, `2026-11-20 02:15`, `2026-11-20` or `2h ago`.

    A time without a zone is in `timezone`. Raises ValueError with the remedy, also for a local
    time that the clocks skip or show twice.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now.astimezone(UTC) - timedelta(seconds=parse_duration(ago[1]))
    try:
        if _ZONED.fullmatch(text):
            return datetime.fromisoformat(text[:10] + "T" + text[11:].replace(" ", "")).astimezone(
                UTC
            )
        if _LOCAL.fullmatch(text):
            return _in_zone(datetime.fromisoformat(text), timezone)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: {error}.") from error
    raise ValueError(
        f"{text!r} is not a time. "
        "Write 2026-11-20T02:15:00Z, 2026-11-20 02:15, 2026-11-20 or 2h ago."
    )


def _in_zone(local: datetime, timezone: str) -> datetime:
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(timezone)
    early = local.replace(tzinfo=zone, fold=0)
    late = local.replace(tzinfo=zone, fold=1)
    if early.utcoffset() == late.utcoffset():
        return early.astimezone(UTC)
    if early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
        raise ValueError(f"the clocks in {timezone} skip it; add an offset: {late.isoformat()}")
    raise ValueError(
        f"the clocks in {timezone} show it twice; write {early.isoformat()} or {late.isoformat()}"
    )
