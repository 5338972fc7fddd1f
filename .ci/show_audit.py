"""Print the vulnerabilities in a report of pip-audit, and fail if the report covers no package.

python .ci/show_audit.py REPORT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(report: Path) -> int:
    """Print one line for each vulnerability. Return 1 if nothing could be looked up."""
    if not report.is_file():
        return 1
    packages = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    audited = [each for each in packages if "skip_reason" not in each]
    for each in audited:
        for found in each["vulns"]:
            mended = ", ".join(found["fix_versions"]) or "no version"
            print(
                f"VULNERABLE: {each['name']} {each['version']}: {found['id']}; mended in {mended}"
            )
    print(f"{len(audited)} of {len(packages)} installed packages were looked up")
    return 0 if audited else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
