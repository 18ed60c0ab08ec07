"""Write the pages of docs/reference that are not current, each whole or not at all, and say which."""

from dae_ssl.files import write_bytes
from docs.generate import REFERENCE, pages

REFERENCE.mkdir(exist_ok=True)
for path, text in pages().items():
    current = path.exists() and path.read_text(encoding="utf-8") == text
    if not current:
        write_bytes(path, text.encode())
    print(f"{'current' if current else 'written'}  docs/reference/{path.name}")
