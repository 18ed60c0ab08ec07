"""One result of a check of a profile: what was checked, the verdict, and one line of explanation."""

from dataclasses import dataclass

OK, WRONG, UNKNOWN = "ok", "will not work", "not certain"


@dataclass(frozen=True)
class Finding:
    """What was checked, the verdict (OK, WRONG or UNKNOWN), and one line of explanation."""

    subject: str
    verdict: str
    message: str
