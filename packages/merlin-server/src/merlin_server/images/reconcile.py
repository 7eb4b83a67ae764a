"""Operations of kind ``image``: build a version's image because somebody asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from merlin_images.builders.port import BuiltImage
from merlin_server.database import now
from merlin_server.images.service import ImageService
from merlin_server.images.store import ImageRow
from merlin_server.operations.reconciler import Again, Done, Lease, Next
from merlin_server.operations.retries import worth_retrying
from merlin_server.settings import Settings
from merlin_server.versions.store import VersionRow

CANCELLED = "The build was cancelled."


@dataclass(frozen=True)
class ImageWork:
    """One version to build, or whose build is to end."""

    model_id: int
    version_id: int
    cancelled: bool = False


class ImageReconciler:
    """Builds images; `ImageService` records steps and outcome on its own."""

    kind = "image"

    def __init__(self, images: ImageService, settings: Settings) -> None:
        self.deadline = timedelta(seconds=settings.images.build_timeout_seconds)
        self._images = images

    def load(self, session: Session, subject: str) -> ImageWork | None:
        model_id, _, version_id = subject.partition("/")
        key = int(model_id), int(version_id)
        if session.get(VersionRow, key) is None:
            return None
        row = session.get(ImageRow, key)
        return ImageWork(*key, cancelled=row is not None and row.cancelled)

    def run(self, work: ImageWork, lease: Lease) -> BuiltImage | None:
        if work.cancelled:
            lease.phase("cancelling")
            self._images.cancel(work.model_id, work.version_id)
            return None
        lease.phase("building")
        return self._images.ensure(work.model_id, work.version_id, lease)

    def apply(self, session: Session, work: ImageWork, result: BuiltImage | None) -> Next:
        del result
        row = session.get(ImageRow, (work.model_id, work.version_id))
        if work.cancelled and row is not None:
            row.state, row.message, row.finished_at = "failed", CANCELLED, now()
            row.cancelled = False
        return Done()

    def failed(
        self,
        session: Session,
        work: ImageWork,
        error: Exception,
        *,
        attempt: int,
        overdue: bool,
    ) -> Next:
        if not overdue and worth_retrying(error, attempt):
            return Again(failed=True)
        row = session.get(ImageRow, (work.model_id, work.version_id))
        if row is None:
            row = ImageRow(model_id=work.model_id, version_id=work.version_id)
            session.add(row)
        row.cancelled = False
        if row.state != "failed":
            row.state, row.message, row.finished_at = "failed", str(error), now()
        return Done()
