"""Medical tests need nibabel and pydicom."""

from __future__ import annotations

import pytest

pytest.importorskip("nibabel")
pytest.importorskip("pydicom")
