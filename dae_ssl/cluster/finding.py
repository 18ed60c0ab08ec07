"""One answer to a question about a profile: what was looked at, whether it will do, and a line of words."""

from dataclasses import dataclass

OK, WRONG, UNKNOWN = "ok", "will not work", "cannot be told"


@dataclass(frozen=True)
class Finding:
    """One answer: what was looked at, one of OK, WRONG and UNKNOWN, and a line of words."""

    subject: str
    verdict: str
    message: str
